/**
 * The ranges of records in segments, a row for each segment and log that has any. `edges` selects
 * segment, partition, lane and base_offset: the bases of the segments, and of the one behind them.
 * A log without a base in its first segment began there at 0.
 */
export function rangesOf(edges: string): string {
  return `SELECT segment, array_agg(partition ORDER BY partition, lane) AS partitions,
       array_agg(lane ORDER BY partition, lane) AS lanes, array_agg(first ORDER BY partition, lane) AS first_offsets,
       array_agg(last ORDER BY partition, lane) AS last_offsets
  FROM (
    SELECT segment - 1 AS segment, partition, lane, base_offset - 1 AS last,
           coalesce(lag(base_offset) OVER (PARTITION BY partition, lane ORDER BY segment), 0) AS first
      FROM (${edges}) AS edges
  ) AS ranges WHERE first <= last GROUP BY segment`;
}
