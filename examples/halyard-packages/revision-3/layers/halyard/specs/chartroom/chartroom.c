#include <knot.h>
#include <stdio.h>
#include <stdlib.h>

static int stronger(const void *a, const void *b)
{
	const struct knot *const *x = a, *const *y = b;

	return (*y)->strength - (*x)->strength;
}

int main(void)
{
	const struct knot *all[64];
	size_t n = 0;

	while (n < sizeof all / sizeof all[0] && (all[n] = knot_at(n)) != NULL)
		n++;
	qsort(all, n, sizeof all[0], stronger);
	for (size_t i = 0; i < n; i++)
		printf("%-14s %3d%%\n", all[i]->name, all[i]->strength);
	return 0;
}
