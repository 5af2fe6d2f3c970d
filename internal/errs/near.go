package errs

// Near gives the candidate that is most like name, for "did you mean" hints, or
// "" when none is near: at most a third of the letters may differ, at least one
// is allowed. The distance is Damerau-Levenshtein (adjacent letters swapped
// count once).
func Near(name string, candidates []string) string {
	return NearBy(name, candidates, max(1, len(name)/3))
}

// NearBy is Near with a limit of its own: at most so many letters may differ.
func NearBy(name string, candidates []string, most int) string {
	best, bestDist := "", most+1
	for _, c := range candidates {
		if d := distance(name, c); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}
