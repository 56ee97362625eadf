-- Room for namespaces: a topic or a group is found by its namespace and its name. There is only namespace 0 yet. Everything else refers to ids.

ALTER TABLE millrace.topics
  ADD COLUMN namespace_id integer NOT NULL DEFAULT 0,
  DROP CONSTRAINT topics_name_key,
  ADD CONSTRAINT topics_namespace_name_key UNIQUE (namespace_id, name);

ALTER TABLE millrace.consumer_groups
  ADD COLUMN namespace_id integer NOT NULL DEFAULT 0,
  DROP CONSTRAINT consumer_groups_name_key,
  ADD CONSTRAINT consumer_groups_namespace_name_key UNIQUE (namespace_id, name);

-- The view names topics of namespace 0. With the whole key in the query the planner knows that a name is one topic, and reads no other topic's tables.
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
  JOIN millrace.topics AS t ON t.id = b.topic_id AND t.namespace_id = 0
 CROSS JOIN LATERAL unnest(b.keys, b.headers, b."values") WITH ORDINALITY AS r (key, headers, value, index);
