"""Files that are whole or absent, locks, and Parquet tables by schema."""
