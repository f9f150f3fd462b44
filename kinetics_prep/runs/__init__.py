"""What a command does: prepare clips, refresh a data set, download videos."""
