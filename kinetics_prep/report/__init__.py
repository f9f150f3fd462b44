"""Pictures and progress for people: nothing here changes what is written to disk."""
