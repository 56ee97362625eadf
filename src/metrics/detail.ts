import type { Family, Sample } from './family.ts';

/** The metrics of single groups and topics. The number of their series is bounded. */

/** What a scrape asks for. */
export interface DetailRequest {
  readonly families: readonly DetailFamily[];
  readonly matches: (name: string) => boolean;
}

export const detailFamilies = ['group', 'topic'] as const;
export type DetailFamily = (typeof detailFamilies)[number];

/** A topic as one group consumes it. */
export interface GroupDetail {
  readonly group: string;
  readonly topic: string;
  readonly members: number;
  /** Of the subscription. */
  readonly state: string;
  readonly lagRecords: number;
  readonly inFlightRecords: number;
  readonly deliveredRecords: number;
  readonly ackedRecords: number;
  readonly gapRecords: number;
  /** Null if the database did not answer in time, or has not been asked. */
  readonly oldestUnackedMs: number | null;
}

export interface TopicDetail {
  readonly name: string;
  readonly appendedRecords: number;
  /** The lag of all groups together. */
  readonly lagRecords: number;
  readonly watermarkLag: number;
  readonly segments: number;
  readonly storedBytes: number;
  readonly drops: ReadonlyMap<string, number>;
}

interface Labelled {
  readonly label: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Series<Row> {
  readonly name: string;
  readonly kind: 'gauge' | 'counter';
  readonly help: string;
  readonly of: (row: Row) => number | readonly Labelled[] | null;
  /** The most samples of a row. Default: 1. */
  readonly samplesMax?: number;
}

const ofGroups: readonly Series<GroupDetail>[] = [
  {
    name: 'millrace_group_lag_records',
    kind: 'gauge',
    help: 'Records of the topic that the group has not acked.',
    of: (row) => row.lagRecords,
  },
  {
    name: 'millrace_group_oldest_unacked_seconds',
    kind: 'gauge',
    help: 'The age of the oldest of these, since its append.',
    of: ({ oldestUnackedMs, lagRecords }) =>
      lagRecords === 0 ? 0 : oldestUnackedMs === null ? null : oldestUnackedMs / 1_000,
  },
  {
    name: 'millrace_group_delivered_records_total',
    kind: 'counter',
    help: 'Records delivered to members of the group, repeated ones too.',
    of: (row) => row.deliveredRecords,
  },
  {
    name: 'millrace_group_acked_records_total',
    kind: 'counter',
    help: 'Records that the group has acked.',
    of: (row) => row.ackedRecords,
  },
  {
    name: 'millrace_group_gap_records_total',
    kind: 'counter',
    help: 'Records that the group was owed when retention dropped them.',
    of: (row) => row.gapRecords,
  },
  {
    name: 'millrace_group_in_flight_records',
    kind: 'gauge',
    help: 'Records delivered to members of the group and not acked.',
    of: (row) => row.inFlightRecords,
  },
  { name: 'millrace_group_members', kind: 'gauge', help: 'Members of the group.', of: (row) => row.members },
  {
    name: 'millrace_group_subscription_state',
    kind: 'gauge',
    help: '1 for the state of the subscription.',
    of: ({ state }) => [{ label: { state }, value: 1 }],
  },
];

const ofTopics: readonly Series<TopicDetail>[] = [
  {
    name: 'millrace_topic_appended_records_total',
    kind: 'counter',
    help: 'Records of the topic since it was made.',
    of: (row) => row.appendedRecords,
  },
  {
    name: 'millrace_topic_lag_records',
    kind: 'gauge',
    help: 'Records that groups have not acked, summed over the groups of the topic.',
    of: (row) => row.lagRecords,
  },
  {
    name: 'millrace_topic_watermark_lag_records',
    kind: 'gauge',
    help: 'Records from the watermark on: some group has not acked the first of them in each log.',
    of: (row) => row.watermarkLag,
  },
  {
    name: 'millrace_topic_stored_bytes',
    kind: 'gauge',
    help: 'The segments of the topic, in bytes.',
    of: (row) => row.storedBytes,
  },
  {
    name: 'millrace_topic_segments',
    kind: 'gauge',
    help: 'Segments of the topic.',
    of: (row) => row.segments,
  },
  {
    name: 'millrace_topic_dropped_segments_total',
    kind: 'counter',
    help: 'Segments of the topic that went, by reason.',
    of: ({ drops }) => Array.from(drops, ([reason, value]) => ({ label: { reason }, value })),
    samplesMax: 4,
  },
];

/** The most series of one answer. */
const detailSeriesMax = 2_000;
/** One series says for each family how many objects are left out. */
const rowSeriesMax = detailSeriesMax - detailFamilies.length;

/** How many rows of each requested family an answer may have. */
export function rowsMaxOf(families: readonly DetailFamily[]): number {
  const each =
    (families.includes('group') ? samplesOf(ofGroups) : 0) + (families.includes('topic') ? samplesOf(ofTopics) : 0);
  return Math.floor(rowSeriesMax / Math.max(1, each));
}

/** The most samples of one row. */
function samplesOf(series: readonly Pick<Series<never>, 'samplesMax'>[]): number {
  return series.reduce((sum, { samplesMax = 1 }) => sum + samplesMax, 0);
}

interface DetailRows {
  readonly groups: readonly GroupDetail[];
  readonly topics: readonly TopicDetail[];
  /** The number of matching objects that have no series, by requested family. */
  readonly leftOut: Readonly<Partial<Record<DetailFamily, number>>>;
}

export function detailOf({ groups, topics, leftOut }: DetailRows): Family[] {
  const left = Object.entries(leftOut).map(([family, value]): Sample => ({ labels: { family }, value }));
  return [
    ...('group' in leftOut ? familiesOf(ofGroups, groups, ({ group, topic }) => ({ group, topic })) : []),
    ...('topic' in leftOut ? familiesOf(ofTopics, topics, ({ name }) => ({ topic: name })) : []),
    {
      name: 'millrace_detail_left_out',
      kind: 'gauge',
      help: 'Groups with their topics, and topics, that match and have no series here, because others have more lag.',
      samples: left,
    },
  ];
}

function familiesOf<Row>(
  all: readonly Series<Row>[],
  rows: readonly Row[],
  labelsOf: (row: Row) => Readonly<Record<string, string>>,
): Family[] {
  return all.map(({ name, kind, help, of }) => {
    const samples = rows.flatMap((row) => {
      const value = of(row);
      if (value === null) return [];
      const labels = labelsOf(row);
      if (typeof value === 'number') return [{ labels, value }];
      return value.map(({ label, value: one }) => ({ labels: { ...labels, ...label }, value: one }));
    });
    return { name, kind, help, samples };
  });
}
