DROP TABLE millrace.group_rebalances;
ALTER TABLE millrace.group_members
  DROP COLUMN metadata,
  DROP COLUMN client_assignors,
  DROP COLUMN max_poll_interval_ms,
  DROP COLUMN instance_id;
