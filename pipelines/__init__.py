"""What one launches on an engine."""
