import type { OpenBroker } from '../broker/opening.ts';
import type { ConsumedTopic } from '../metrics/consumption.ts';
import { detailOf, rowsMaxOf, type DetailRequest, type GroupDetail, type TopicDetail } from '../metrics/detail.ts';
import type { Family } from '../metrics/family.ts';
import { Worst } from '../metrics/worst.ts';
import type { Clock } from '../time/clock.ts';
import type { Once } from '../time/once.ts';
import { timeUp, within } from '../time/within.ts';

interface DetailDeps {
  readonly broker: Pick<OpenBroker, 'detail'>;
  /**
   * The lookup of ages under way. A scrape goes without them while an earlier one still waits, so
   * that no more wait than the database answers.
   */
  readonly lookups: Once<'ages', void>;
  readonly clock: Clock;
}

/** So many objects are visited in one turn of the event loop. */
const visitedMax = 2_000;
/** The most records whose ages one scrape looks up in the database. */
const agesMax = 4_000;
/** A scrape waits this long for the database, and then goes out without its numbers. */
const waitMsMax = 1_000;

/** The series of the groups and topics with the most lag. */
export async function detail({ families, matches }: DetailRequest, deps: DetailDeps): Promise<Family[]> {
  const { topics, subscriptions } = deps.broker.detail;
  const rowsMax = rowsMaxOf(families);
  const groups = new Worst<ConsumedTopic>(families.includes('group') ? rowsMax : 0, (row) => row.lagRecords);
  const worstTopics = new Worst<TopicDetail>(families.includes('topic') ? rowsMax : 0, ({ lagRecords }) => lagRecords);
  const lagOfTopics = new Map<number, number>();
  await inSteps(deps.clock, subscriptions(), (row) => {
    lagOfTopics.set(row.topicId, (lagOfTopics.get(row.topicId) ?? 0) + row.lagRecords);
    if (matches(row.group) || matches(row.topic)) groups.offer(row);
  });
  await inSteps(deps.clock, topics(), (topic) => {
    if (matches(topic.name)) worstTopics.offer({ ...topic, lagRecords: lagOfTopics.get(topic.id) ?? 0 });
  });
  const groupRows = await withAges(groups.items(), deps);
  const leftOut = {
    ...(families.includes('group') && { group: groups.leftOut }),
    ...(families.includes('topic') && { topic: worstTopics.leftOut }),
  };
  return detailOf({ groups: groupRows, topics: worstTopics.items(), leftOut });
}

/** Visits the items, some in each turn of the event loop. */
async function inSteps<T>(clock: Clock, items: Iterable<T>, visit: (item: T) => void): Promise<void> {
  let visited = 0;
  for (const item of items) {
    visit(item);
    if (++visited % visitedMax !== 0) continue;
    await new Promise<void>((resolve) => {
      clock.soon(resolve);
    });
  }
}

/** Adds the age of the oldest un-acked record to the rows with the most lag. */
async function withAges(
  rows: readonly ConsumedTopic[],
  { broker, lookups, clock }: DetailDeps,
): Promise<GroupDetail[]> {
  const ages = new Map<ConsumedTopic, number>();
  if (!lookups.has('ages')) {
    const enough = new AbortController();
    const ended = lookups.run('ages', () => lookUpAges(rows, broker, ages, enough.signal));
    if ((await within(clock, waitMsMax, ended)) === timeUp) enough.abort();
  }
  return rows.map((row) => ({ ...row, oldestUnackedMs: ages.get(row) ?? null }));
}

async function lookUpAges(
  rows: readonly ConsumedTopic[],
  { detail: { appendAges } }: Pick<OpenBroker, 'detail'>,
  ages: Map<ConsumedTopic, number>,
  enough: AbortSignal,
): Promise<void> {
  let room = agesMax;
  for (const row of rows) {
    if (room === 0 || enough.aborted) return;
    if (row.lagRecords === 0) continue;
    // The oldest of some records would be too young.
    const places = row.firstUnacked(room + 1);
    if (places.length > room) return;
    if (places.length === 0) continue;
    room -= places.length;
    const found = await appendAges(row.topicId, places).catch((): (number | null)[] => []);
    const known = found.filter((age) => age !== null);
    if (known.length > 0) ages.set(row, Math.max(...known));
  }
}
