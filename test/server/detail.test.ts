import { expect, test } from 'vitest';
import type { ConsumedTopic } from '../../src/metrics/consumption.ts';
import type { RecordPlace } from '../../src/log/store.ts';
import type { TopicNumbers } from '../../src/log/topic.ts';
import type { DetailFamily } from '../../src/metrics/detail.ts';
import { textOf } from '../../src/metrics/text.ts';
import { detail } from '../../src/server/detail.ts';
import { Once } from '../../src/time/once.ts';
import { FakeClock } from '../support/fake-clock.ts';

const seriesMax = 2_000;
const reasons = ['COMPLETED', 'ZERO_SUBSCRIPTIONS', 'MAX_AGE', 'MAX_BYTES'] as const;

interface Asked {
  readonly topicId: number;
  readonly places: readonly RecordPlace[];
}

/** Groups with topics, whose ages the database knows or does not. */
class DetailScene {
  readonly clock = new FakeClock();
  readonly asked: Asked[] = [];
  readonly #lookups = new Once<'ages', void>();
  subscriptions: ConsumedTopic[] = [];
  topics: TopicNumbers[] = [];
  ages: (asked: Asked) => Promise<(number | null)[]> = ({ places }) => Promise.resolve(places.map(() => 5_000));

  add(group: string, topicId: number, lagRecords: number, behind = lagRecords > 0 ? 1 : 0): void {
    const firstUnacked = (max: number): RecordPlace[] =>
      Array.from({ length: Math.min(max, behind) }, (_, partition) => ({ partition, lane: 0, offset: 7 }));
    const counts = {
      members: 2,
      state: 'ACTIVE',
      inFlightRecords: 3,
      deliveredRecords: 40,
      ackedRecords: 30,
      gapRecords: 7,
    };
    this.subscriptions.push({ group, topic: `topic-${topicId}`, topicId, lagRecords, ...counts, firstUnacked });
  }

  async text(families: DetailFamily[] = ['group', 'topic'], matches = (_name: string) => true): Promise<string> {
    const appendAges = (topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]> => {
      this.asked.push({ topicId, places });
      return this.ages({ topicId, places });
    };
    const broker = { detail: { topics: () => this.topics, subscriptions: () => this.subscriptions, appendAges } };
    const answer = detail({ families, matches }, { broker, lookups: this.#lookups, clock: this.clock });
    await this.clock.advance(1_000);
    return textOf(await answer);
  }
}

const topicOf = (id: number, more: Partial<TopicNumbers> = {}): TopicNumbers => {
  const sizes = { appendedRecords: 1, watermarkLag: 1, segments: 1, storedBytes: 8_192 };
  return { id, name: `topic-${id}`, ...sizes, drops: new Map(), ...more };
};

const samplesOf = (text: string): string[] => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

test('each group and topic has its series, and each topic the sum of its groups', async () => {
  const scene = new DetailScene();
  scene.topics = [
    topicOf(1, { appendedRecords: 900, watermarkLag: 12, segments: 2, drops: new Map([['COMPLETED', 3]]) }),
  ];
  scene.add('billing', 1, 10);
  scene.add('shipping', 1, 5);
  scene.ages = ({ places }) => Promise.resolve(places.map((_, at) => (at === 0 ? 5_000 : null)));
  expect(samplesOf(await scene.text())).toEqual([
    'millrace_group_lag_records{group="billing",topic="topic-1"} 10',
    'millrace_group_lag_records{group="shipping",topic="topic-1"} 5',
    'millrace_group_oldest_unacked_seconds{group="billing",topic="topic-1"} 5',
    'millrace_group_oldest_unacked_seconds{group="shipping",topic="topic-1"} 5',
    'millrace_group_delivered_records_total{group="billing",topic="topic-1"} 40',
    'millrace_group_delivered_records_total{group="shipping",topic="topic-1"} 40',
    'millrace_group_acked_records_total{group="billing",topic="topic-1"} 30',
    'millrace_group_acked_records_total{group="shipping",topic="topic-1"} 30',
    'millrace_group_gap_records_total{group="billing",topic="topic-1"} 7',
    'millrace_group_gap_records_total{group="shipping",topic="topic-1"} 7',
    'millrace_group_in_flight_records{group="billing",topic="topic-1"} 3',
    'millrace_group_in_flight_records{group="shipping",topic="topic-1"} 3',
    'millrace_group_members{group="billing",topic="topic-1"} 2',
    'millrace_group_members{group="shipping",topic="topic-1"} 2',
    'millrace_group_subscription_state{group="billing",topic="topic-1",state="ACTIVE"} 1',
    'millrace_group_subscription_state{group="shipping",topic="topic-1",state="ACTIVE"} 1',
    'millrace_topic_appended_records_total{topic="topic-1"} 900',
    'millrace_topic_lag_records{topic="topic-1"} 15',
    'millrace_topic_watermark_lag_records{topic="topic-1"} 12',
    'millrace_topic_stored_bytes{topic="topic-1"} 8192',
    'millrace_topic_segments{topic="topic-1"} 2',
    'millrace_topic_dropped_segments_total{topic="topic-1",reason="COMPLETED"} 3',
    'millrace_detail_left_out{family="group"} 0',
    'millrace_detail_left_out{family="topic"} 0',
  ]);
});

test.each([[['group', 'topic']], [['group']], [['topic']]] as [DetailFamily[]][])(
  'an answer about %j has at most 2,000 series, those with the most lag, and counts the others',
  async (families) => {
    const scene = new DetailScene();
    for (let id = 1; id <= 5_000; id++) {
      scene.topics.push(topicOf(id, { drops: new Map(reasons.map((reason) => [reason, 1])) }));
      scene.add(`group-${id}`, id, id);
    }
    const text = await scene.text(families);
    const samples = samplesOf(text);
    expect(samples.length).toBeLessThanOrEqual(seriesMax);
    expect(samples.length).toBeGreaterThan(seriesMax - 20);
    for (const family of families) {
      const shown = samples.filter((line) => line.startsWith(`millrace_${family}_lag_records{`));
      expect(shown[0]).toContain('topic-5000');
      expect(text).toContain(`millrace_detail_left_out{family="${family}"} ${5_000 - shown.length}\n`);
    }
  },
);

test('a pattern selects groups by the name of the group or of the topic', async () => {
  const scene = new DetailScene();
  scene.topics = [1, 2].map((id) => topicOf(id));
  scene.add('billing', 1, 1);
  scene.add('shipping', 2, 1);
  const lags = async (name: string): Promise<string[]> =>
    samplesOf(await scene.text(['group'], (each) => each === name)).filter((line) => line.includes('_lag_records'));
  expect(await lags('billing')).toEqual(['millrace_group_lag_records{group="billing",topic="topic-1"} 1']);
  expect(await lags('topic-2')).toEqual(['millrace_group_lag_records{group="shipping",topic="topic-2"} 1']);
});

test('a scrape looks up at most 4,000 ages, of the groups with the most lag, and none of a group without lag', async () => {
  const scene = new DetailScene();
  for (let id = 1; id <= 100; id++) scene.add(`group-${id}`, id, id, 1_000);
  scene.add('idle', 200, 0);
  const text = await scene.text(['group']);
  expect(scene.asked.map(({ topicId }) => topicId)).toEqual([100, 99, 98, 97]);
  expect(text).toContain('millrace_group_oldest_unacked_seconds{group="group-97",topic="topic-97"} 5\n');
  expect(text).not.toContain('millrace_group_oldest_unacked_seconds{group="group-96"');
  expect(text).toContain('millrace_group_oldest_unacked_seconds{group="idle",topic="topic-200"} 0\n');
});

test('an answer goes out after 1 s without the ages that the database does not give', async () => {
  const scene = new DetailScene();
  scene.topics = [topicOf(1)];
  scene.add('billing', 1, 1);
  scene.ages = () => new Promise(() => undefined);
  const text = await scene.text();
  expect(text).toContain('millrace_group_lag_records{group="billing",topic="topic-1"} 1\n');
  expect(text).not.toMatch(/^millrace_group_oldest_unacked_seconds\{/m);
});

test('an answer goes out without the ages that the database refuses', async () => {
  const scene = new DetailScene();
  scene.topics = [topicOf(1)];
  scene.add('billing', 1, 1);
  scene.ages = () => Promise.reject(new Error('the database is away'));
  expect(await scene.text()).not.toMatch(/^millrace_group_oldest_unacked_seconds\{/m);
});

test('scrapes ask a slow database nothing more before it has answered', async () => {
  const scene = new DetailScene();
  scene.topics = [topicOf(1)];
  scene.add('billing', 1, 1);
  const slow = Promise.withResolvers<number[]>();
  scene.ages = () => slow.promise;
  for (let n = 0; n < 3; n++) await scene.text();
  expect(scene.asked).toHaveLength(1);
  slow.resolve([5_000]);
  await scene.clock.advance(0);
  const text = await scene.text();
  expect(scene.asked).toHaveLength(2);
  expect(text).toContain('millrace_group_oldest_unacked_seconds{group="billing",topic="topic-1"} 5\n');
});
