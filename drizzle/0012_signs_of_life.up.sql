-- The last sign of life of members, whatever the number of takeovers since.

-- Until when each owner lived that is not the present one: its last renewal, or its release. The last thousand are kept.
CREATE TABLE millrace.broker_epochs (
  epoch      bigint      PRIMARY KEY,
  renewed_at timestamptz NOT NULL
);
INSERT INTO millrace.broker_epochs (epoch, renewed_at)
SELECT CASE WHEN renewed_at = '-infinity' THEN epoch ELSE epoch - 1 END, before_renewed_at
  FROM millrace.broker_lease WHERE before_renewed_at IS NOT NULL;
ALTER TABLE millrace.broker_lease DROP COLUMN before_renewed_at;

-- The epoch of the last owner that has heard a member of the group; null: none since this is kept.
ALTER TABLE millrace.consumer_groups ADD COLUMN heard_epoch bigint;
