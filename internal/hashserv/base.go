package hashserv

import (
	"context"

	"slipway/internal/hashserv/hashdb"
)

// A fork has a database of its own, and a base that others share. It answers
// from both; it writes to its own alone. What follows is the same without a base.

// ready looks at what others have written; see hashdb.DB.Ready.
func (s *Server) ready(ctx context.Context) error {
	if s.Base != nil {
		if err := s.Base.Ready(ctx); err != nil {
			return err
		}
	}
	return s.DB.Ready(ctx)
}

func (s *Server) appendUnihash(ctx context.Context, dst, method, task []byte) ([]byte, bool, error) {
	dst, ok, err := s.DB.AppendUnihash(ctx, dst, method, task)
	if err == nil && !ok && s.Base != nil {
		return s.Base.AppendUnihash(ctx, dst, method, task)
	}
	return dst, ok, err
}

func (s *Server) unihash(ctx context.Context, method, task string) (string, error) {
	uni, err := s.DB.Unihash(ctx, method, task)
	if err == nil && uni == "" && s.Base != nil {
		return s.Base.Unihash(ctx, method, task)
	}
	return uni, err
}

func (s *Server) exists(ctx context.Context, uni []byte) (bool, error) {
	ok, err := s.DB.Exists(ctx, uni)
	if err == nil && !ok && s.Base != nil {
		return s.Base.Exists(ctx, uni)
	}
	return ok, err
}

// The base's rows are older than those of the fork.

func (s *Server) byTask(ctx context.Context, method, task string) (*hashdb.Row, error) {
	if s.Base != nil {
		if row, err := s.Base.ByTask(ctx, method, task); err != nil || row != nil {
			return row, err
		}
	}
	return s.DB.ByTask(ctx, method, task)
}

func (s *Server) byOutput(ctx context.Context, method, out string, with bool) (*hashdb.Row, error) {
	if s.Base != nil {
		if row, err := s.Base.ByOutput(ctx, method, out, with); err != nil || row != nil {
			return row, err
		}
	}
	return s.DB.ByOutput(ctx, method, out, with)
}

// inherit gives a task in the fork the unihash that the base would give it: its
// own, or that of the oldest task with the same output.
func (s *Server) inherit(ctx context.Context, method, task, out string) error {
	if uni, err := s.DB.Unihash(ctx, method, task); err != nil || uni != "" {
		return err
	}
	uni, err := s.Base.Unihash(ctx, method, task)
	if err == nil && uni == "" {
		var row *hashdb.Row
		if row, err = s.Base.ByOutput(ctx, method, out, true); row != nil {
			uni = row.Unihash
		}
	}
	if err != nil || uni == "" {
		return err
	}
	_, err = s.DB.Assign(ctx, method, task, uni)
	return err
}
