"""What lies on disk: atomic writes, the lock, slide and run records, the audit log, and their readers."""
