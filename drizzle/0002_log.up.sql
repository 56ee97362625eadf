-- Topics, their partitions, and the log: one row for each appended batch, written once and never updated.

CREATE TABLE millrace.topics (
  id                    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name                  text COLLATE "C" NOT NULL UNIQUE,
  semantics             text NOT NULL CHECK (semantics IN ('PUB_SUB')),
  idempotency_window_ms integer NOT NULL,
  description           text NOT NULL,
  -- The segment (leaf table of record_batches) that appends go to. Changed only under the locks of all its partitions.
  segment               integer NOT NULL,
  created_at            timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- An append locks the row and never updates it: a lock leaves no row version behind, so it stays as fast as it is however
-- long some other session holds a snapshot.
CREATE TABLE millrace.partitions (
  id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic_id         integer NOT NULL REFERENCES millrace.topics ON DELETE CASCADE,
  partition        integer NOT NULL,
  log_start_offset bigint NOT NULL DEFAULT 0,
  UNIQUE (topic_id, partition)
);

-- Those above topics.segment are made ahead: nothing reads or writes them yet.
CREATE TABLE millrace.segments (
  topic_id   integer NOT NULL REFERENCES millrace.topics ON DELETE CASCADE,
  segment    integer NOT NULL,
  -- Of one that is not ahead any more: when appends began to go to it.
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  sealed_at  timestamptz,
  PRIMARY KEY (topic_id, segment)
);

-- Where each log stood when a segment began. The first segment of a topic has no rows here: everything begins at 0.
CREATE TABLE millrace.segment_bases (
  topic_id         integer NOT NULL REFERENCES millrace.topics ON DELETE CASCADE,
  segment          integer NOT NULL,
  partition        integer NOT NULL,
  lane             integer NOT NULL,
  base_offset      bigint NOT NULL,
  -- Append times never fall, also from one segment to the next. Null: nothing was appended before.
  last_appended_at timestamptz,
  PRIMARY KEY (topic_id, segment, partition, lane)
);

-- Tables of deleted topics that are still to be dropped, and those that were: the audit of what is gone.
CREATE TABLE millrace.segment_drops (
  topic_id   integer NOT NULL,
  segment    integer NOT NULL,
  topic_name text NOT NULL,
  reason     text NOT NULL,
  planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  done_at    timestamptz,
  PRIMARY KEY (topic_id, segment)
);

-- Each part of the records is an array, so that SQL sees keys and values with a plain unnest, and reading one part does not touch the others.
-- Broker and readers use the leaf tables by name; this parent is for SQL users.
CREATE TABLE millrace.record_batches (
  topic_id     integer NOT NULL,
  segment      integer NOT NULL,
  partition    integer NOT NULL,
  lane         integer NOT NULL,
  base_offset  bigint NOT NULL,
  record_count integer NOT NULL,
  -- Bytes of all slices: what a read is planned by.
  byte_size    integer NOT NULL,
  appended_at  timestamptz NOT NULL,
  -- Null where no record of the batch has the part. "values" is always there and has an element for every record.
  keys         bytea[],
  headers      bytea[],
  "values"     bytea[] NOT NULL,
  rests        bytea[],
  PRIMARY KEY (topic_id, segment, partition, lane, base_offset)
) PARTITION BY LIST (topic_id);

-- lz4 where the server has it; never pglz, the default, which halves the rate of appends. Leaf tables copy this.
DO $$
DECLARE
  part text;
BEGIN
  FOREACH part IN ARRAY ARRAY['keys', 'headers', 'values', 'rests'] LOOP
    BEGIN
      EXECUTE format('ALTER TABLE millrace.record_batches ALTER COLUMN %I SET STORAGE EXTENDED, ALTER COLUMN %I SET COMPRESSION lz4', part, part);
    EXCEPTION WHEN feature_not_supported THEN
      EXECUTE format('ALTER TABLE millrace.record_batches ALTER COLUMN %I SET STORAGE EXTERNAL', part);
    END;
  END LOOP;
END $$;

-- What an append begins with: the fence, the locks of its partitions in the order of their ids, and whether the batches are meant for
-- the current segments. The row of the topic is read without a lock: who changes it holds the locks of all partitions. Locked for share by
-- appends at once, it would get a multixact and a WAL record from each. The inserts that follow are statements of their own, whose snapshots are younger than the locks.
CREATE FUNCTION millrace.lock_logs(
  fence_broker text, fence_slot integer, fence_epoch bigint,
  partition_ids integer[], topic_ids integer[], topic_segments integer[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  locked integer;
BEGIN
  PERFORM millrace.fence(fence_broker, fence_slot, fence_epoch);
  SELECT count(*) INTO locked FROM (
    SELECT 1 FROM millrace.partitions AS p WHERE p.id = ANY (partition_ids) ORDER BY p.id FOR UPDATE
  ) AS rows;
  IF locked <> cardinality(partition_ids) OR EXISTS (
    SELECT 1 FROM unnest(topic_ids, topic_segments) AS wanted (topic_id, segment)
      LEFT JOIN millrace.topics AS t ON t.id = wanted.topic_id
     WHERE t.segment IS DISTINCT FROM wanted.segment
  ) THEN
    RAISE EXCEPTION 'a batch is meant for a segment that is not the current one' USING ERRCODE = 'MR002';
  END IF;
END $$;

-- Idempotency keys, a ring of tables: the oldest is truncated when the ring turns, because deleting rows would cost more than writing them.
-- A key may hold any character, also one that text cannot.
CREATE TABLE millrace.idempotency_0 (
  topic_id  integer NOT NULL,
  key       bytea NOT NULL,
  partition integer NOT NULL,
  "offset"  bigint NOT NULL,
  at        timestamptz NOT NULL,
  PRIMARY KEY (topic_id, key)
);
CREATE TABLE millrace.idempotency_1 (LIKE millrace.idempotency_0 INCLUDING ALL);
CREATE TABLE millrace.idempotency_2 (LIKE millrace.idempotency_0 INCLUDING ALL);
CREATE TABLE millrace.idempotency_3 (LIKE millrace.idempotency_0 INCLUDING ALL);

CREATE TABLE millrace.idempotency_ring (
  only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  current   integer NOT NULL,
  turned_at timestamptz NOT NULL
);
INSERT INTO millrace.idempotency_ring (current, turned_at) VALUES (0, clock_timestamp());

-- A key as text. U+0000 is valid in a key and impossible in text: it becomes U+FFFD.
CREATE FUNCTION millrace.text_of(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  found integer;
  result text := '';
  rest bytea := bytes;
BEGIN
  LOOP
    found := position('\x00'::bytea IN rest);
    EXIT WHEN found = 0;
    result := result || convert_from(substring(rest FROM 1 FOR found - 1), 'UTF8') || U&'\FFFD';
    rest := substring(rest FROM found + 1);
  END LOOP;
  RETURN result || convert_from(rest, 'UTF8');
END $$;

-- The headers of a record as they are stored, a run of encoded map entries, as JSON. The last of equal names wins.
CREATE FUNCTION millrace.headers_of(bytes bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  at integer := 0;
  entry_end integer;
  size integer;
  shift integer;
  byte integer;
  field integer;
  name text;
  value text;
  result jsonb := '{}';
BEGIN
  WHILE at < coalesce(length(bytes), 0) LOOP
    name := '';
    value := '';
    entry_end := NULL;
    -- The entry's tag and length, then its fields until its end.
    LOOP
      EXIT WHEN at >= coalesce(entry_end, at + 1);
      field := get_byte(bytes, at) >> 3;
      at := at + 1;
      size := 0;
      shift := 0;
      LOOP
        byte := get_byte(bytes, at);
        at := at + 1;
        size := size | ((byte & 127) << shift);
        shift := shift + 7;
        EXIT WHEN byte < 128;
      END LOOP;
      IF entry_end IS NULL THEN
        entry_end := at + size;
      ELSE
        IF field = 1 THEN
          name := millrace.text_of(substring(bytes FROM at + 1 FOR size));
        ELSIF field = 2 THEN
          value := millrace.text_of(substring(bytes FROM at + 1 FOR size));
        END IF;
        at := at + size;
      END IF;
    END LOOP;
    result := result || jsonb_build_object(name, value);
  END LOOP;
  RETURN result;
END $$;

-- The log for SQL: one row a message. Columns that a query does not name are not decoded.
CREATE VIEW millrace.messages AS
SELECT t.name AS topic,
       b.partition,
       b.lane,
       b.base_offset + r.index - 1 AS "offset",
       CASE WHEN length(r.key) = 0 THEN NULL
            WHEN position('\x00'::bytea IN r.key) = 0 THEN convert_from(r.key, 'UTF8')
            ELSE millrace.text_of(r.key) END AS key,
       millrace.headers_of(r.headers) AS headers,
       r.value,
       b.appended_at AS append_time
  FROM millrace.record_batches AS b
  JOIN millrace.topics AS t ON t.id = b.topic_id
 CROSS JOIN LATERAL unnest(b.keys, b.headers, b."values") WITH ORDINALITY AS r (key, headers, value, index);
