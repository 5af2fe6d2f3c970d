package dnf

// WithoutForkserver gives a tool that starts every dnf by itself.
func (t *Tool) WithoutForkserver() *Tool {
	return &Tool{Version: t.Version, RPM: t.RPM, prefix: t.prefix, bind: t.bind, serverErr: errNoForkserver}
}

// WithForkserver gives a tool with a process of its own that starts dnf.
func (t *Tool) WithForkserver() *Tool {
	return &Tool{Version: t.Version, RPM: t.RPM, prefix: t.prefix, bind: t.bind}
}

// Forkserver gives the process that starts dnf; 0 when there is none.
func (t *Tool) Forkserver() int {
	s, _ := t.forks(false)
	if s == nil {
		return 0
	}
	return s.pid
}
