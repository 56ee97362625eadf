-- Refused where an older Millrace would lose or deliver something wrongly.
DO $$
BEGIN
  IF EXISTS (SELECT FROM millrace.topics AS t WHERE (SELECT min(segment) FROM millrace.segments AS s WHERE s.topic_id = t.id) > 1) THEN
    RAISE EXCEPTION 'segments of a topic have been dropped, and an older Millrace would look for them: restore a backup instead';
  END IF;
  IF EXISTS (SELECT FROM millrace.subscriptions WHERE state = 'PAUSED') THEN
    RAISE EXCEPTION 'a subscription is PAUSED, and an older Millrace would deliver to it: resume or cancel it first';
  END IF;
  RAISE NOTICE 'the retention of topics and the life of subscriptions are forgotten: topics keep everything again';
END $$;

DROP FUNCTION millrace.claims_changed(integer[]);
ALTER TABLE millrace.broker_lease DROP COLUMN before_renewed_at;
DROP TABLE millrace.ballast, millrace.topic_watermarks, millrace.subscription_audit, millrace.cursor_gaps;
ALTER TABLE millrace.cursors DROP COLUMN start_offset, DROP COLUMN end_offset;

-- DEAD becomes ACTIVE: it holds back again, and loses nothing.
DROP INDEX millrace.subscriptions_unattended;
CREATE UNIQUE INDEX subscriptions_active ON millrace.subscriptions (group_id, topic_id) WHERE state = 'ACTIVE';
DROP INDEX millrace.subscriptions_live;
UPDATE millrace.subscriptions SET state = 'ACTIVE' WHERE state = 'DEAD';
ALTER TABLE millrace.subscriptions
  DROP CONSTRAINT subscriptions_state_check,
  ADD CONSTRAINT subscriptions_state_check CHECK (state IN ('ACTIVE', 'CANCELLED')),
  DROP COLUMN state_reason, DROP COLUMN state_changed_at, DROP COLUMN dead_after_ms, DROP COLUMN unattended_since, DROP COLUMN claim_seq;

-- The older drop of a deleted topic removes the topic's own table with its last segment.
DELETE FROM millrace.segment_drops WHERE segment = 0 AND (done_at IS NOT NULL OR EXISTS (
  SELECT FROM millrace.segment_drops AS d WHERE d.topic_id = segment_drops.topic_id AND d.segment > 0 AND d.done_at IS NULL));
DROP INDEX millrace.segment_drops_pending, millrace.segment_drops_name;
ALTER TABLE millrace.segment_drops
  DROP CONSTRAINT segment_drops_reason,
  DROP COLUMN bytes, DROP COLUMN partitions, DROP COLUMN lanes, DROP COLUMN first_offsets, DROP COLUMN last_offsets;
ALTER TABLE millrace.segments DROP COLUMN bytes, DROP COLUMN completed_at;
ALTER TABLE millrace.partitions ADD COLUMN log_start_offset bigint NOT NULL DEFAULT 0;
ALTER TABLE millrace.topics
  DROP COLUMN after_completion_ms, DROP COLUMN excused_keep_ms, DROP COLUMN max_age_ms, DROP COLUMN max_bytes, DROP COLUMN keep_unsubscribed_ms,
  DROP COLUMN gap_reason;
