#include <knot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads "key = value" lines; what is not known is left out. */
static void configure(const char *path, char *name, size_t size, unsigned *turns)
{
	char line[256];
	FILE *f = fopen(path, "r");

	if (!f)
		return;
	while (fgets(line, sizeof line, f)) {
		char *value = strstr(line, " = ");

		line[strcspn(line, "\n")] = 0;
		if (line[0] == '#' || !value)
			continue;
		*value = 0;
		value += 3;
		if (strcmp(line, "knot") == 0)
			snprintf(name, size, "%s", value);
		else if (strcmp(line, "turns") == 0)
			*turns = (unsigned)strtoul(value, NULL, 10);
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	char name[64] = "bowline", label[96];
	unsigned turns = 1;
	const struct knot *k;

	configure("/etc/knot.conf", name, sizeof name, &turns);
	if (argc > 1)
		snprintf(name, sizeof name, "%s", argv[1]);
	k = knot_find(name);
	if (!k || knot_label(label, sizeof label, k->name, turns) != 0) {
		fprintf(stderr, "knotctl: no knot is called \"%s\"\n", name);
		return 1;
	}
	printf("%s: %d%% of the rope's strength\n", label, k->strength);
	return 0;
}
