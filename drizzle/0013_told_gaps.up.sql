-- Whether a member has got the gap, and the group has acked a record behind it since. Such acks alone do not prove it: those of records
-- that were in flight when the gap came may be earlier. Gaps from before count as told, as they did.
ALTER TABLE millrace.cursor_gaps ADD COLUMN told boolean NOT NULL DEFAULT true;
ALTER TABLE millrace.cursor_gaps ALTER COLUMN told SET DEFAULT false;
