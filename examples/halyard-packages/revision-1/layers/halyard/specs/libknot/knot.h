/* libknot: names of knots, and what each leaves of the strength of a rope. */
#ifndef KNOT_H
#define KNOT_H

#include <stddef.h>

struct knot {
	const char *name;
	int strength; /* percent of the rope's that is left */
};

/* The knots by number, from 0; NULL after the last. */
const struct knot *knot_at(size_t i);

/* The knot of a name, or NULL. */
const struct knot *knot_find(const char *name);

/* Writes "<name> x<turns>" with its final 0 into out, which has room for size
   bytes. 0 when it fits, -1 when not; then out is not written to. */
int knot_label(char *out, size_t size, const char *name, unsigned turns);

#endif
