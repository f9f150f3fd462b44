"""Files that are written whole or not at all, locks between processes, and Parquet tables by schema."""
