import { openBroker, type OpenBroker } from '../../../src/broker/opening.ts';
import type { Services } from '../../../src/broker/services.ts';
import type { SettleCommand, SettleOutcome } from '../../../src/delivery/ports/settle.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { WriteTrouble } from '../../../src/errors/write-trouble.ts';
import { limits } from '../../../src/limits/limits.ts';
import { Ownership } from '../../../src/ownership/ownership.ts';
import { AwakeClock } from '../../../src/time/awake-clock.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { Connection, type Link } from '../database/connection.ts';
import type { Database } from '../database/database.ts';
import { fussy } from './fussy-assignor.ts';
import type { Ledger } from '../ledgers/ledger.ts';
import { SimulatedProcess } from './process.ts';
import { CarelessRing, sabotaged, type Sabotage } from '../sabotage.ts';
import { groupStore, leaseStore, logStore, retentionStore, topicStore, type StoreParts } from '../database/stores.ts';
import type { World } from '../world.ts';

const drainMs = 3_000;
/** The tail cache is small, so that readers that are behind read from the database. */
const tailCacheBytesMax = 2_000;
export const streamUnsentBytesMax = 2_000;
/** Shorter than most runs, and longer than all but a few delays of the network. */
const slowReaderMs = 12_000;

export interface BrokerSite {
  readonly world: World;
  readonly database: Database;
  readonly ledger: Ledger;
  readonly sabotage: Sabotage;
}

/** A broker process without its edges: ownership, log and delivery, combined as in `src/server`. */
export class SimulatedBroker {
  readonly process: SimulatedProcess;
  readonly #awake: AwakeClock;
  readonly ownership: Ownership;
  readonly link: Link = { up: true };
  epoch = 0;
  ended = false;
  readonly #onEnd: (() => void)[] = [];
  readonly #site: BrokerSite;
  readonly #connections: Connection[] = [];
  readonly #lease: ReturnType<typeof leaseStore>;
  readonly #parts: StoreParts;
  #open: OpenBroker | null = null;
  #calls: Services | null = null;
  #stopping = false;

  constructor(site: BrokerSite, name: string) {
    this.#site = site;
    const { world, database, ledger, sabotage } = site;
    this.process = new SimulatedProcess(world, name);
    this.#awake = new AwakeClock(this.process, () => {
      world.count('a broker wakes');
    });
    this.#awake.start();
    this.#parts = { database, ledger, sabotage, epoch: () => this.epoch, connect: () => this.#connect() };
    this.#lease = leaseStore(this.#parts);
    this.ownership = new Ownership({
      store: this.#lease,
      clock: this.process,
      random: this.process,
      log: { info: () => undefined, warn: () => undefined },
      prepare: () => this.#lease.connection.call(() => undefined),
      onActive: (epoch) => this.#activate(epoch),
      onLost: (reason) => {
        world.note(`${name} does not own the database any more: ${reason}`);
        this.#open?.stop();
        this.#end();
      },
    });
    world.note(`${name} starts`);
    this.ownership.start();
  }

  /** The services while the broker serves; null otherwise. */
  get calls(): Services | null {
    return this.ended ? null : this.#calls;
  }

  /** Completes records in the transaction of publishes. @throws Rejection or Fault */
  settle(command: SettleCommand): Promise<SettleOutcome> {
    return this.#open!.settle(command);
  }

  /** Calls `tell` when the process has ended for any reason. */
  atEnd(tell: () => void): void {
    this.#onEnd.push(tell);
  }

  /** Ends the process like a kill -9. */
  kill(): void {
    if (this.ended) return;
    this.#site.world.note(`${this.process.name} is killed`);
    this.#end();
  }

  /** Ends the process like a SIGTERM. */
  async stop(): Promise<void> {
    if (this.#stopping || this.ended) return;
    this.#stopping = true;
    this.#site.world.note(`${this.process.name} is asked to stop`);
    try {
      await this.#open?.drain(drainMs);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
    }
    if (this.ended) return;
    await this.ownership.stop();
    this.#end();
  }

  /** Stops the process like a SIGSTOP. */
  freeze(): void {
    this.#site.world.note(`${this.process.name} is frozen`);
    this.process.freeze();
  }

  thaw(): void {
    this.#site.world.note(`${this.process.name} goes on`);
    this.process.thaw();
  }

  /** Cuts the connections to the database: all, or each with this probability. */
  cutDatabase(probability = 1): void {
    this.#site.world.note(`${this.process.name} loses connections to the database`);
    for (const connection of this.#connections) {
      if (this.#site.world.chance(probability)) connection.cut(this.#site.world.chance(0.5));
    }
  }

  #connect(): Connection {
    const connection = new Connection(this.#site.world, this.process, this.#site.database, this.link);
    this.#connections.push(connection);
    return connection;
  }

  async #activate(epoch: number): Promise<void> {
    this.epoch = epoch;
    const lenient = this.#site.sabotage === 'DELIVERS_WITHOUT_A_LEASE';
    try {
      const tables = logStore(this.#parts);
      const open = await openBroker({
        stores: {
          log: tables,
          commits: tables,
          topics: topicStore(this.#parts),
          groups: groupStore(this.#parts),
          retention: retentionStore(this.#parts),
        },
        writes: new WriteTrouble(() => this.process.wallMs()),
        codec: createBatchCodec(),
        assignors: [fussy],
        // Each effect and each answer takes a turn of its own, so that anything may come between.
        movesAtOnce: 1,
        clock: this.process,
        awakeClock: this.#awake,
        random: this.process,
        account: roomyAccount(),
        ...(this.#site.sabotage === 'FOLDS_A_SETTLEMENT_AWAY' && { ring: new CarelessRing() }),
        limits: {
          recordBytesMax: limits.recordBytesMax,
          publishQueueBytesMax: limits.publishQueueBytesMax,
          groupMembersMax: limits.groupMembersMax,
          partitionsMax: limits.partitionsMax,
          offsetRetentionMs: limits.offsetRetentionMs,
          tailCacheBytesMax,
          streamUnsentBytesMax,
          slowReaderMs,
        },
        mayDeliver: () => lenient || this.ownership.mayDeliver(),
        onFenced: () => {
          this.ownership.fenced();
        },
        log: { info: () => undefined, warn: () => undefined },
      });
      if (this.ended || this.#stopping) {
        open.stop();
        return;
      }
      this.#open = open;
      this.#calls =
        this.#site.sabotage === null ? open.services : sabotaged(open.services, this.#site.sabotage, this.#site.ledger);
      this.#site.world.note(`${this.process.name} serves in epoch ${epoch}`);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#end();
    }
  }

  #end(): void {
    if (this.ended) return;
    this.ended = true;
    void this.#awake.stop();
    this.process.kill();
    for (const connection of this.#connections) connection.cut(this.#site.world.chance(0.5));
    this.#site.world.note(`${this.process.name} has ended`);
    for (const tell of this.#onEnd) tell();
  }
}
