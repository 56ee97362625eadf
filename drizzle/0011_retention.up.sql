-- When records go, the life of subscriptions, and what is owed.

-- Null in after_completion_ms keeps everything; topics from before do. Null in keep_unsubscribed_ms refuses publishes while nobody is subscribed.
ALTER TABLE millrace.topics
  ADD COLUMN after_completion_ms  bigint,
  ADD COLUMN excused_keep_ms      bigint NOT NULL DEFAULT 604800000,
  ADD COLUMN max_age_ms           bigint,
  ADD COLUMN max_bytes            bigint,
  ADD COLUMN keep_unsubscribed_ms bigint DEFAULT 86400000,
  -- Why the last drop took records from cursors that it passed.
  ADD COLUMN gap_reason           text NOT NULL DEFAULT 'RETENTION' CHECK (gap_reason IN ('RETENTION', 'MAX_AGE', 'MAX_BYTES'));

-- The start of a log is the base of the first segment that is still there.
ALTER TABLE millrace.partitions DROP COLUMN log_start_offset;

ALTER TABLE millrace.segments
  -- Of a sealed one, as of its sealing; null: not measured yet.
  ADD COLUMN bytes        bigint,
  -- When the cleaner first found every record done; null again when something in it is owed anew.
  ADD COLUMN completed_at timestamptz;

UPDATE millrace.segments AS s
   SET bytes = coalesce(pg_total_relation_size(to_regclass(format('millrace.record_batches_%s_%s', s.topic_id, s.segment))), 0)
  FROM millrace.topics AS t WHERE t.id = s.topic_id AND s.segment < t.segment;

-- Segment 0 is the table of the topic itself, which goes last.
ALTER TABLE millrace.segment_drops
  ADD COLUMN bytes         bigint    NOT NULL DEFAULT 0,
  ADD COLUMN partitions    integer[] NOT NULL DEFAULT '{}',
  ADD COLUMN lanes         integer[] NOT NULL DEFAULT '{}',
  ADD COLUMN first_offsets bigint[]  NOT NULL DEFAULT '{}',
  ADD COLUMN last_offsets  bigint[]  NOT NULL DEFAULT '{}',
  ADD CONSTRAINT segment_drops_reason CHECK (reason IN ('COMPLETED', 'ZERO_SUBSCRIPTIONS', 'MAX_AGE', 'MAX_BYTES', 'TOPIC_DELETED'));
CREATE INDEX segment_drops_pending ON millrace.segment_drops (topic_id, segment) WHERE done_at IS NULL;
CREATE INDEX segment_drops_name ON millrace.segment_drops (topic_name, planned_at);
INSERT INTO millrace.segment_drops (topic_id, segment, topic_name, reason, planned_at)
SELECT DISTINCT ON (topic_id) topic_id, 0, topic_name, reason, planned_at FROM millrace.segment_drops WHERE done_at IS NULL;

ALTER TABLE millrace.subscriptions
  DROP CONSTRAINT subscriptions_state_check,
  ADD CONSTRAINT subscriptions_state_check CHECK (state IN ('ACTIVE', 'PAUSED', 'DEAD', 'CANCELLED')),
  ADD COLUMN state_reason     text NOT NULL DEFAULT 'UNKNOWN'
    CHECK (state_reason IN ('UNKNOWN', 'CREATED', 'PAUSED', 'RESUMED', 'UNATTENDED', 'RETURNED', 'CANCELLED')),
  ADD COLUMN state_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Null never dies; subscriptions from before never do.
  ADD COLUMN dead_after_ms    bigint,
  -- When the last member of its group was last heard of; null while there is one, and before the first.
  ADD COLUMN unattended_since timestamptz,
  -- Raised by every change of what is owed to it or of what it holds back.
  ADD COLUMN claim_seq        integer NOT NULL DEFAULT 0;
UPDATE millrace.subscriptions SET state_changed_at = coalesce(cancelled_at, created_at), state_reason = CASE state WHEN 'CANCELLED' THEN 'CANCELLED' ELSE 'UNKNOWN' END;
CREATE UNIQUE INDEX subscriptions_live ON millrace.subscriptions (group_id, topic_id) WHERE state <> 'CANCELLED';
DROP INDEX millrace.subscriptions_active;
CREATE INDEX subscriptions_unattended ON millrace.subscriptions (unattended_since) WHERE state = 'ACTIVE' AND unattended_since IS NOT NULL AND dead_after_ms IS NOT NULL;

-- The claim: from start_offset to end_offset. Null: made before this was kept; below the committed offset is then "done", never "never owed". A fold writes neither.
ALTER TABLE millrace.cursors
  ADD COLUMN start_offset bigint,
  ADD COLUMN end_offset   bigint;

-- What drops took from a cursor that has jumped over it, until the group has acked a record behind it. A cursor below the start of its log has not
-- jumped yet: its gap is what lies between. At most one row a cursor: an untold gap and the next one touch.
CREATE TABLE millrace.cursor_gaps (
  subscription_id integer NOT NULL REFERENCES millrace.subscriptions ON DELETE CASCADE,
  partition       integer NOT NULL,
  lane            integer NOT NULL,
  first_offset    bigint  NOT NULL,
  last_offset     bigint  NOT NULL,
  reason          text    NOT NULL CHECK (reason IN ('RETENTION', 'MAX_AGE', 'MAX_BYTES')),
  at              timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (subscription_id, partition, lane)
);

-- Subscriptions that ended while something was owed to them, or with their group.
CREATE TABLE millrace.subscription_audit (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subscription_id integer NOT NULL,
  group_name      text    NOT NULL,
  topic_id        integer NOT NULL,
  topic_name      text    NOT NULL,
  state           text    NOT NULL,
  reason          text    NOT NULL CHECK (reason IN ('CANCELLED', 'OFFSET_RETENTION', 'GROUP_DELETED')),
  owed_records    bigint  NOT NULL,
  at              timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Watermarks by topic and lane, an element for each partition. Shown only once they are here, so that they never go back.
CREATE TABLE millrace.topic_watermarks (
  topic_id integer  NOT NULL REFERENCES millrace.topics ON DELETE CASCADE,
  lane     integer  NOT NULL,
  offsets  bigint[] NOT NULL,
  PRIMARY KEY (topic_id, lane)
) WITH (fillfactor = 50);

-- Space that the cleaner frees first when the disk is full, so that its own rows fit.
CREATE TABLE millrace.ballast (bytes bytea NOT NULL);
ALTER TABLE millrace.ballast ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- When the owner before the present one last renewed or released its lease: the last sign of life of members that it had and that did not come back.
ALTER TABLE millrace.broker_lease ADD COLUMN before_renewed_at timestamptz;

-- Says that the claims of subscriptions have changed, under a lock of their topics: raises their number, and takes the mark "complete" from segments in which something is
-- owed to them. Rows are locked in order, since two such calls may meet. One pass over the cursors, whatever the number of segments. There is only lane 0 yet.
CREATE FUNCTION millrace.claims_changed(ids integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM millrace.subscriptions WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
  UPDATE millrace.subscriptions SET claim_seq = claim_seq + 1 WHERE id = ANY (ids);
  PERFORM 1 FROM millrace.segments AS s WHERE s.completed_at IS NOT NULL
      AND s.topic_id IN (SELECT topic_id FROM millrace.subscriptions WHERE id = ANY (ids)) ORDER BY s.topic_id, s.segment FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  WITH lowest AS MATERIALIZED (
    SELECT u.topic_id, p.partition, min(coalesce(c.committed_offset, 0)) AS committed
      FROM millrace.subscriptions AS u
      JOIN millrace.partitions AS p ON p.topic_id = u.topic_id
      LEFT JOIN millrace.cursors AS c ON c.subscription_id = u.id AND c.partition = p.partition AND c.lane = 0
     WHERE u.id = ANY (ids) AND u.state IN ('ACTIVE', 'PAUSED')
     GROUP BY u.topic_id, p.partition
  ), owed AS MATERIALIZED (
    SELECT b.topic_id, min(b.segment) - 1 AS segment
      FROM lowest AS l JOIN millrace.segment_bases AS b ON b.topic_id = l.topic_id AND b.partition = l.partition AND b.lane = 0
     WHERE b.base_offset > l.committed GROUP BY b.topic_id
  )
  UPDATE millrace.segments AS s SET completed_at = NULL FROM owed
   WHERE s.topic_id = owed.topic_id AND s.segment >= owed.segment AND s.completed_at IS NOT NULL;
END $$;
