package rpmbuild

// FailedTask names the task and the spec that it builds, for whoever reports it.
func (e *TaskError) FailedTask() (task, source string) { return e.Task, e.Source }
