"""What people's files are read as and ours are written as: file types, and formats of rows."""

from engine.formats.registry import FILE_TYPES, ROW_FORMATS

FILE_TYPES.fill("engine.formats.file_types", order=("jsonl", "json_array", "csv", "parquet", "arrow"))
ROW_FORMATS.fill(
    "engine.formats.row_formats",
    order=("preference", "messages", "transcript", "response", "exact", "number", "regex", "choice", "code"),
)
