-- What members say about themselves beyond their first version, and the rebalances of each group.

ALTER TABLE millrace.group_members
  -- A name that outlives the member's process.
  ADD COLUMN instance_id          text    COLLATE "C",
  ADD COLUMN max_poll_interval_ms integer NOT NULL DEFAULT 300000,
  -- Rules by which the member can give out partitions itself; empty: the broker gives them out.
  ADD COLUMN client_assignors     text[]  NOT NULL DEFAULT '{}',
  -- For the assignor, whoever runs it.
  ADD COLUMN metadata             bytea   NOT NULL DEFAULT '';

-- The last rebalances of each group; older ones go with the save that adds a new one.
CREATE TABLE millrace.group_rebalances (
  group_id       integer     NOT NULL REFERENCES millrace.consumer_groups ON DELETE CASCADE,
  -- The generation that it began.
  generation     bigint      NOT NULL,
  -- Why: [{reason, memberId, count}, …], the member being the first that it is about.
  causes         jsonb       NOT NULL,
  ended_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  duration_us    bigint      NOT NULL,
  member_count   integer     NOT NULL,
  -- Partitions that came to a member, and that were taken from a live one.
  assigned_count integer     NOT NULL,
  revoked_count  integer     NOT NULL,
  -- false: the next one began before all partitions had arrived.
  completed      boolean     NOT NULL,
  PRIMARY KEY (group_id, generation)
);
