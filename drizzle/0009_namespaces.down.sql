CREATE OR REPLACE VIEW millrace.messages AS
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

-- Fails where two namespaces have the same name: one of the two has to be renamed first.
ALTER TABLE millrace.consumer_groups
  DROP COLUMN namespace_id,
  ADD CONSTRAINT consumer_groups_name_key UNIQUE (name);

ALTER TABLE millrace.topics
  DROP COLUMN namespace_id,
  ADD CONSTRAINT topics_name_key UNIQUE (name);
