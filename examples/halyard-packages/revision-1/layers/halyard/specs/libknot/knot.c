#include "knot.h"

#include <stdio.h>
#include <string.h>

static const struct knot knots[] = {
	{"bowline", 65}, {"clove hitch", 60}, {"figure eight", 75}, {"reef knot", 45}, {"sheet bend", 55},
};

const struct knot *knot_at(size_t i)
{
	return i < sizeof knots / sizeof knots[0] ? &knots[i] : NULL;
}

const struct knot *knot_find(const char *name)
{
	for (size_t i = 0; i < sizeof knots / sizeof knots[0]; i++)
		if (strcmp(knots[i].name, name) == 0)
			return &knots[i];
	return NULL;
}

int knot_label(char *out, size_t size, const char *name, unsigned turns)
{
	char count[16];

	snprintf(count, sizeof count, " x%u", turns);
	if (strlen(name) + strlen(count) > size - 1)
		return -1;
	strcpy(out, name);
	strcat(out, count);
	return 0;
}
