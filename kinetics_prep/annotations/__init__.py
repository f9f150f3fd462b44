"""What annotation files say: formats, rows, label maps, and which rows a run is about."""
