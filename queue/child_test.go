package queue_test

func child(dir string) {}
