-- An older Millrace knows only the last renewal of the owner before.
ALTER TABLE millrace.consumer_groups DROP COLUMN heard_epoch;
ALTER TABLE millrace.broker_lease ADD COLUMN before_renewed_at timestamptz;
UPDATE millrace.broker_lease SET before_renewed_at = (SELECT renewed_at FROM millrace.broker_epochs ORDER BY epoch DESC LIMIT 1);
DROP TABLE millrace.broker_epochs;
