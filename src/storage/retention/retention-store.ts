import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import {
  detachesAtOnce,
  type DropPlan,
  type MovedWatermarks,
  type Planned,
  type PlannedDrop,
  type RetentionStore,
  type StoredDrop,
  type StoredFacts,
  type StoredWatermarks,
  type TableFacts,
} from '../../lifecycle/store.ts';
import type { StoredStart } from '../../log/store.ts';
import { present } from '../../errors/present.ts';
import { sqlState } from '../pg/faults.ts';
import type { Now } from '../pg/now.ts';
import type { Connection } from '../sessions/connection.ts';
import type { Writer } from '../sessions/writer.ts';
import { readAudit, readFirstOffsets, readPending, tidy, writeDone } from './audit.ts';
import { freeBallast, isDiskFull, makeBallast, takeSpace } from './ballast.ts';
import { readFacts } from './facts.ts';
import { readDecidedStarts, writePlan } from './plan.ts';
import { detachStatement, lookAt, namesOf, runStep, withLimits } from './tables.ts';
import { readWatermarks, topicsTogetherMax, writeWatermarks } from './watermarks.ts';

const lockNotAvailable = '55P03';

interface RetentionStorageOptions {
  readonly connect: (purpose: string) => Connection;
  readonly writer: Writer;
  /** Reads facts, which takes long for a topic with many cursors. */
  readonly reads: Connection;
  /** Reads what a broker needs to serve, which takes no session more than its other loads. */
  readonly admin: Connection;
  /** Called after the topic's segments may have changed. */
  readonly onChanged: (topicId: number) => void;
  readonly now: Now;
}

/** Thrown by a transaction that must not commit. */
class Undone extends Error {}

/** What the cleanup of logs needs, on PostgreSQL. */
export class RetentionStorage implements RetentionStore {
  readonly #o: RetentionStorageOptions;
  /** Looks at tables and drops them. */
  readonly #steps: Connection;
  /** Each waits for one detach, without a limit. */
  readonly #detachers: readonly Connection[];
  #stops = 0;

  constructor(options: RetentionStorageOptions) {
    this.#o = options;
    this.#steps = options.connect('drop-steps');
    this.#detachers = Array.from({ length: detachesAtOnce }, (_, index) => options.connect(`drops-${index}`));
  }

  facts(topicId: number): Promise<StoredFacts | null> {
    return this.#o.reads.run((client) => readFacts(client, topicId, this.#o.now));
  }

  async plan(plan: DropPlan): Promise<Planned | 'CHANGED' | 'BUSY'> {
    try {
      return await this.#write((client) => writePlan(client, plan, this.#o.now));
    } catch (error) {
      if (error instanceof Fault && sqlState(error.cause) === lockNotAvailable) return 'BUSY';
      throw error;
    } finally {
      this.#o.onChanged(plan.facts.topicId);
    }
  }

  decidedStarts(topicId: number): Promise<StoredStart[]> {
    this.#o.onChanged(topicId);
    return this.#o.reads.run((client) => readDecidedStarts(client, topicId));
  }

  async saveWatermarks(moved: readonly MovedWatermarks[]): Promise<number[]> {
    const saved: number[] = [];
    for (let at = 0; at < moved.length; at += topicsTogetherMax) {
      const some = moved.slice(at, at + topicsTogetherMax);
      saved.push(...(await this.#write((client) => writeWatermarks(client, some))));
    }
    return saved;
  }

  loadWatermarks(): Promise<StoredWatermarks[]> {
    return this.#o.admin.run(readWatermarks);
  }

  pendingDrops(): Promise<PlannedDrop[]> {
    return this.#steps.run(readPending);
  }

  table(drop: PlannedDrop): Promise<TableFacts> {
    return this.#steps.run((client) => lookAt(client, drop));
  }

  detach(drop: PlannedDrop): Promise<void> {
    const stops = this.#stops;
    return this.#idleDetacher().run(async (client) => {
      // A stop while the session opens has nothing to end, and nobody would end this wait.
      if (stops === this.#stops) await runStep(() => client.query(detachStatement(namesOf(drop))));
    });
  }

  async cancelDetach(pid: number): Promise<void> {
    await this.#steps.run((client) => client.query('SELECT pg_cancel_backend($1)', [pid]));
  }

  finalize(drop: PlannedDrop, lockTimeoutMs: number): Promise<void> {
    const { table, parent } = namesOf(drop);
    // It waits for each older snapshot, one after the other, so the whole statement has the limit.
    const limits = { lockMs: lockTimeoutMs, statementMs: lockTimeoutMs };
    const text = `ALTER TABLE ${parent} DETACH PARTITION ${table} FINALIZE`;
    return this.#steps.run((client) => withLimits(client, limits, () => client.query(text)));
  }

  drop(drop: PlannedDrop, lockTimeoutMs: number): Promise<void> {
    const { table } = namesOf(drop);
    return this.#steps.run((client) =>
      withLimits(client, { lockMs: lockTimeoutMs }, () => client.query(`DROP TABLE ${table}`)),
    );
  }

  done(drop: PlannedDrop): Promise<void> {
    return this.#write((client) => writeDone(client, drop, this.#o.now));
  }

  firstOffsets(topicId: number, segments: readonly number[], logsMax: number): Promise<Map<number, StoredStart[]>> {
    return this.#o.reads.run((client) => readFirstOffsets(client, topicId, segments, logsMax));
  }

  audit(topicName: string, limit: number): Promise<StoredDrop[]> {
    return this.#o.reads.run((client) => readAudit(client, topicName, limit));
  }

  tidy(): Promise<void> {
    return this.#write((client) => tidy(client, this.#o.now));
  }

  async hasSpace(): Promise<boolean> {
    try {
      // A database that has a little space may be about to be full again.
      for (const size of ['PROBE', 'BALLAST'] as const) await this.#undone((client) => takeSpace(client, size));
      return true;
    } catch (error) {
      if (isDiskFull(error)) return false;
      throw error;
    }
  }

  freeBallast(): Promise<void> {
    return this.#write(freeBallast);
  }

  makeBallast(): Promise<void> {
    return this.#write(makeBallast);
  }

  stop(): void {
    this.#stops++;
    for (const connection of this.#detachers) connection.leave();
  }

  #write<T>(work: (client: Client) => Promise<T>): Promise<T> {
    return this.#o.writer.transaction(work);
  }

  /** Runs a transaction and rolls it back. */
  async #undone(work: (client: Client) => Promise<void>): Promise<void> {
    try {
      await this.#write(async (client) => {
        await work(client);
        throw new Undone('the transaction has done its work');
      });
    } catch (error) {
      if (!(error instanceof Undone)) throw error;
    }
  }

  #idleDetacher(): Connection {
    const idle = this.#detachers.find(({ load }) => load === 0);
    return idle ?? present(this.#detachers[0], 'there are sessions that detach');
  }
}
