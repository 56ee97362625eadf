import {
  BelowLogStart,
  type LogEnd,
  type LogStore,
  type ReadRequest,
  type RecordPlace,
  type SegmentSize,
  type StoredStart,
} from '../../log/store.ts';
import type { StoredBatch } from '../../log/batch.ts';
import type { Connection } from '../sessions/connection.ts';
import { sqlState, undefinedTableState } from '../pg/faults.ts';
import type { Now } from '../pg/now.ts';
import { leafTable } from '../schema/leaf.ts';
import { LoadedEnds } from './loaded-ends.ts';
import { appendAges, baseAtTime, readBatches } from './read.ts';
import {
  lockTopicLogs,
  makeSegmentAhead,
  readEnds,
  readSegments,
  readStarts,
  rollSegment,
  segmentBase,
  segmentOf,
  segmentSize,
  type SegmentBases,
} from './segments.ts';
import type { UnsettledSessions } from '../commit/unsettled.ts';
import type { Writer } from '../sessions/writer.ts';
import type { Clock } from '../../time/clock.ts';
import { present } from '../../errors/present.ts';

/** The connections that read older batches. Each runs one read at a time. */
const readConnections = 2;
/** The most ages that one statement looks up, so that other look-ups do not wait long. */
const agesMax = 1_000;

interface LogStoreOptions {
  readonly connect: (purpose: string) => Connection;
  readonly lookups: Connection;
  /** Sessions that may still run an append. */
  readonly unsettled: UnsettledSessions;
  /** Runs the statements that lock whole topics. */
  readonly admin: Writer;
  /** Creates tables, and may wait for sessions that lock their parents. */
  readonly tables: Writer;
  /** Runs vacuums, which may take long. */
  readonly maintenance: Connection;
  readonly clock: Clock;
  readonly now: Now;
}

/** The log on PostgreSQL. */
export class PostgresLogStore implements LogStore {
  readonly #o: LogStoreOptions;
  readonly #readers: readonly Connection[];
  readonly #lookups: Connection;
  readonly #ends: LoadedEnds;
  readonly #segments = new Map<number, Promise<SegmentBases>>();

  constructor(options: LogStoreOptions) {
    this.#o = options;
    this.#readers = Array.from({ length: readConnections }, (_, index) => options.connect(`read-${index}`));
    this.#lookups = options.lookups;
    this.#ends = new LoadedEnds(options.connect, options.clock);
  }

  async ends(topicId: number): Promise<LogEnd[]> {
    await this.#lookups.run((client) => this.#o.unsettled.end(client));
    return this.#o.admin.transaction(async (client) => {
      const segment = await lockTopicLogs(client, topicId, 'SHARE');
      if (segment === null) return [];
      return (await readEnds(client, [{ id: topicId, segment }])).get(topicId) ?? [];
    });
  }

  endsOf(topicIds: readonly number[]): Promise<Map<number, LogEnd[]>> {
    return this.#ends.read(topicIds);
  }

  starts(topicId: number): Promise<StoredStart[]> {
    this.forgetSegments(topicId);
    return this.#lookups.run((client) => readStarts(client, topicId));
  }

  async read(request: ReadRequest): Promise<StoredBatch[]> {
    const { topicId, partition, lane, offset } = request;
    const known = await this.#segmentsOf(topicId);
    const [first] = known.segments;
    // A topic without segments is deleted, and has no records.
    if (first === undefined) return [];
    if (offset < segmentBase(known, first, partition, lane)) throw belowStart(request);
    const segment = segmentOf(known, partition, lane, offset);
    const read = await this.#reader().run((client) =>
      this.#unlessGone(topicId, null, () => readBatches(client, segment, request)),
    );
    if (read !== null) return read;
    // The table is gone, so what was known of the segments was too old.
    if ((await this.#segmentsOf(topicId)).segments.length === 0) return [];
    throw belowStart(request);
  }

  async offsetAtTime(topicId: number, partition: number, lane: number, timeUs: number): Promise<number | null> {
    const known = await this.#segmentsOf(topicId);
    const log = { topicId, partition, lane };
    for (const segment of known.segments) {
      const from = segmentBase(known, segment, partition, lane);
      const found = await this.#lookups.run((client) =>
        this.#unlessGone(topicId, null, () => baseAtTime(client, segment, log, from, timeUs)),
      );
      if (found !== null) return found;
    }
    return null;
  }

  async appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]> {
    const known = await this.#segmentsOf(topicId);
    const bySegment = Map.groupBy(places, ({ partition, lane, offset }) => segmentOf(known, partition, lane, offset));
    const ages = new Map<RecordPlace, number | null>();
    for (const [segment, inSegment] of bySegment) {
      for (let from = 0; from < inSegment.length; from += agesMax) {
        const some = inSegment.slice(from, from + agesMax);
        const found = await this.#agesIn(topicId, segment, some);
        for (const [index, place] of some.entries()) ages.set(place, found[index] ?? null);
      }
    }
    return places.map((place) => ages.get(place) ?? null);
  }

  async makeSegment(topicId: number, current: number): Promise<void> {
    await this.#o.tables.transaction((client) => makeSegmentAhead(client, topicId, current, this.#o.now));
  }

  async rollSegment(topicId: number, current: number, bytes?: number): Promise<number> {
    const segment = await this.#o.admin.transaction((client) =>
      rollSegment(client, topicId, current, bytes, this.#o.now),
    );
    this.forgetSegments(topicId);
    // No append writes to the sealed table, so after this freeze no wraparound vacuum rewrites it.
    if (segment === current + 1) void this.#freeze(topicId, current);
    return segment;
  }

  saveSegmentBytes(topicId: number, segment: number, bytes: number): Promise<void> {
    return this.#o.admin.write({
      name: 'segment_bytes',
      text: 'UPDATE millrace.segments SET bytes = $3 WHERE topic_id = $1 AND segment = $2 AND sealed_at IS NULL',
      parameters: [topicId, segment, bytes],
    });
  }

  segmentSize(topicId: number, segment: number): Promise<SegmentSize> {
    return this.#lookups.run((client) => segmentSize(client, topicId, segment, this.#o.now));
  }

  stop(): void {
    this.#ends.stop();
  }

  /** Drops the cached segments, because the topic has other segments now or is deleted. */
  forgetSegments(topicId: number): void {
    this.#segments.delete(topicId);
  }

  #agesIn(topicId: number, segment: number, places: readonly RecordPlace[]): Promise<(number | null)[]> {
    return this.#lookups.run((client) =>
      this.#unlessGone(topicId, [], () => appendAges(client, segment, topicId, places, this.#o.now)),
    );
  }

  /** Reads; returns `nothing` if the table was dropped. */
  async #unlessGone<T>(topicId: number, nothing: T, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (sqlState(error) !== undefinedTableState) throw error;
      this.forgetSegments(topicId);
      return nothing;
    }
  }

  #reader(): Connection {
    let idlest = present(this.#readers[0], 'there are readers');
    for (const reader of this.#readers) if (reader.load < idlest.load) idlest = reader;
    return idlest;
  }

  #segmentsOf(topicId: number): Promise<SegmentBases> {
    const known = this.#segments.get(topicId);
    if (known !== undefined) return known;
    const reading = this.#lookups.run((client) => readSegments(client, topicId));
    this.#segments.set(topicId, reading);
    reading.catch(() => {
      this.forgetSegments(topicId);
    });
    return reading;
  }

  async #freeze(topicId: number, segment: number): Promise<void> {
    try {
      await this.#o.maintenance.run((client) => client.query(`VACUUM (FREEZE) ${leafTable(topicId, segment)}`));
    } catch {
      // Autovacuum freezes the table later.
    }
  }
}

function belowStart({ topicId, partition, lane, offset }: ReadRequest): BelowLogStart {
  return new BelowLogStart(`offset ${offset} of log ${topicId}/${partition}/${lane} is not stored any more`);
}
