"""Video file -> clip: ffmpeg, trimming and resampling by timestamp, and the values that hold pixels and flow."""
