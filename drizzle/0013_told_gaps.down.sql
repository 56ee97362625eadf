-- An older Millrace takes acks behind a gap as the proof that it was told.
ALTER TABLE millrace.cursor_gaps DROP COLUMN told;
