-- An older broker reads a pair `offset, attempts` for each record.
CREATE FUNCTION millrace.attempt_pairs(runs bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
  pairs bigint[] := '{}';
  n     integer := 1;
BEGIN
  WHILE n < cardinality(runs) LOOP
    IF runs[n + 1] < 0 THEN
      pairs := pairs || ARRAY(
        SELECT value FROM generate_series(runs[n], runs[n] - runs[n + 1] - 1) AS place,
               LATERAL (VALUES (1, place), (2, runs[n + 2])) AS pair (nth, value)
         ORDER BY place, nth);
      n := n + 3;
    ELSE
      pairs := pairs || ARRAY[runs[n], runs[n + 1]];
      n := n + 2;
    END IF;
  END LOOP;
  RETURN pairs;
END $$;

UPDATE millrace.cursors SET attempts = millrace.attempt_pairs(attempts) WHERE 0 > ANY (attempts);
COMMENT ON COLUMN millrace.cursors.attempts IS NULL;

-- The attempts of a row are those of its cursors, one after the other; the counts say how many numbers each cursor has.
CREATE FUNCTION millrace.expand_ack_rows(ring_table regclass) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  round  record;
  counts integer[];
  pairs  bigint[];
  of_one bigint[];
  begins integer;
BEGIN
  FOR round IN EXECUTE format('SELECT ctid AS place, attempt_counts, attempts FROM %s WHERE 0 > ANY (attempts)', ring_table) LOOP
    counts := '{}'; pairs := '{}'; begins := 1;
    FOR n IN 1 .. cardinality(round.attempt_counts) LOOP
      of_one := millrace.attempt_pairs(round.attempts[begins : begins + round.attempt_counts[n] - 1]);
      begins := begins + round.attempt_counts[n];
      counts := counts || cardinality(of_one);
      pairs := pairs || of_one;
    END LOOP;
    EXECUTE format('UPDATE %s SET attempt_counts = $1, attempts = $2 WHERE ctid = $3', ring_table) USING counts, pairs, round.place;
  END LOOP;
END $$;
SELECT millrace.expand_ack_rows('millrace.ack_log_0'), millrace.expand_ack_rows('millrace.ack_log_1'), millrace.expand_ack_rows('millrace.ack_log_2');
DROP FUNCTION millrace.expand_ack_rows(regclass);
DROP FUNCTION millrace.attempt_pairs(bigint[]);
