import { Fault } from '../../src/errors/fault.ts';
import { Ownership } from '../../src/ownership/ownership.ts';
import type { LeaseRow, LeaseSight, LeaseStore } from '../../src/ownership/store.ts';
import type { Clock } from '../../src/time/clock.ts';
import type { FakeClock } from '../support/fake-clock.ts';
import type { SimulatedDatabase, SimulatedSession } from './simulated-database.ts';

/** The clock of a process that can be frozen: what falls due meanwhile happens when it goes on. */
class ProcessClock implements Clock {
  readonly #clock: FakeClock;
  #frozen = false;
  #dead = false;
  #late: (() => void)[] = [];

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  wallMs = (): number => this.#clock.wallMs();
  nowMs = (): number => this.#clock.nowMs();

  after(delayMs: number, run: () => void): () => void {
    let cancelled = false;
    const cancel = this.#clock.after(delayMs, () => {
      this.#run(() => {
        if (!cancelled) run();
      });
    });
    return () => {
      cancelled = true;
      cancel();
    };
  }

  soon(run: () => void): void {
    this.#clock.soon(() => {
      this.#run(run);
    });
  }

  freeze(): void {
    this.#frozen = true;
  }

  thaw(): void {
    this.#frozen = false;
    const late = this.#late;
    this.#late = [];
    for (const run of late) this.#run(run);
  }

  kill(): void {
    this.#dead = true;
    this.#late = [];
  }

  #run(run: () => void): void {
    if (this.#dead) return;
    if (this.#frozen) this.#late.push(run);
    else run();
  }
}

/**
 * The lease store of one simulated broker: each call is a trip to the database and back, as long as
 * `tripMs` says.
 */
class SimulatedLeaseStore implements LeaseStore {
  readonly #database: SimulatedDatabase;
  readonly #broker: string;
  readonly #clock: Clock;
  readonly #tripMs: () => number;
  #session: SimulatedSession | null = null;
  #listener: () => void = () => undefined;

  constructor(database: SimulatedDatabase, broker: string, clock: Clock, tripMs: () => number) {
    this.#database = database;
    this.#broker = broker;
    this.#clock = clock;
    this.#tripMs = tripMs;
  }

  onUnlocked(listener: () => void): void {
    this.#listener = listener;
  }

  tryLock(): Promise<boolean> {
    return this.#call((session) => this.#database.tryLock(session));
  }

  unlock(): Promise<void> {
    return this.#call((session) => {
      this.#database.unlock(session);
    });
  }

  read(): Promise<LeaseSight> {
    return this.#call((session) => this.#database.read(session));
  }

  evict(broker: string, ageMsMin: number): Promise<boolean> {
    return this.#call(() => this.#database.evict(broker, ageMsMin));
  }

  takeOver(seen: LeaseRow | null, patienceMs: number): Promise<number | null> {
    return this.#call((session) => this.#database.takeOver(session, seen, patienceMs));
  }

  renew(epoch: number): Promise<boolean> {
    return this.#call((session) => this.#database.renew(session, epoch));
  }

  release(epoch: number | null): Promise<void> {
    return this.#call((session) => {
      this.#database.release(session, epoch);
    });
  }

  /** The session ends with its process. */
  close(): void {
    if (this.#session !== null) this.#database.endSession(this.#session);
  }

  async #call<T>(work: (session: SimulatedSession) => T | Promise<T>): Promise<T> {
    await this.#trip();
    if (this.#session?.open !== true) this.#session = this.#connect();
    const session = this.#session;
    let outcome: { value: T } | { error: unknown };
    try {
      outcome = { value: await work(session) };
    } catch (error) {
      outcome = { error };
    }
    await this.#trip();
    if (!session.open) throw new Fault('OUTCOME_UNKNOWN', 'the connection was cut');
    if ('error' in outcome) throw outcome.error as Error;
    return outcome.value;
  }

  #connect(): SimulatedSession {
    return this.#database.connect(this.#broker, () => {
      // The process learns of it when it runs.
      this.#clock.soon(() => {
        this.#listener();
      });
    });
  }

  #trip(): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(this.#tripMs(), resolve);
    });
  }
}

const writeIntervalMs = 100;

/**
 * A broker process that writes as much as it is let: it never asks whether it owns the database,
 * the fence has to tell.
 */
export class SimulatedBroker {
  readonly name: string;
  readonly ownership: Ownership;
  frozen = false;
  alive = true;
  lostReason: string | null = null;
  activeEpoch: number | null = null;
  /** How long its migration takes; null: as chance has it. */
  prepareMs: number | null = null;
  readonly #database: SimulatedDatabase;
  readonly #clock: ProcessClock;
  readonly #store: SimulatedLeaseStore;

  constructor(options: { name: string; database: SimulatedDatabase; clock: FakeClock; random: () => number }) {
    const { name, database, clock, random } = options;
    this.name = name;
    this.#database = database;
    this.#clock = new ProcessClock(clock);
    this.#store = new SimulatedLeaseStore(database, name, this.#clock, () => random() * 10);
    this.ownership = new Ownership({
      store: this.#store,
      clock: this.#clock,
      random: { fraction: random, uuid: () => name },
      log: { info: () => undefined, warn: () => undefined },
      prepare: () => this.#prepare(this.prepareMs ?? random() * 200),
      onActive: (epoch) => {
        this.activeEpoch = epoch;
        this.#write(random);
        return Promise.resolve();
      },
      onLost: (reason) => {
        this.lostReason = reason;
        this.#end();
      },
    });
    this.ownership.start();
  }

  get delivers(): boolean {
    return this.alive && !this.frozen && this.ownership.mayDeliver();
  }

  freeze(): void {
    this.frozen = true;
    this.#clock.freeze();
  }

  thaw(): void {
    this.frozen = false;
    this.#clock.thaw();
  }

  kill(): void {
    this.#clock.kill();
    this.#end();
  }

  /** SIGTERM. */
  async stop(): Promise<void> {
    await this.ownership.stop();
    this.#end();
  }

  #end(): void {
    this.alive = false;
    this.#store.close();
  }

  #prepare(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(ms, resolve);
    });
  }

  #write(random: () => number): void {
    if (!this.alive || this.activeEpoch === null) return;
    const outcome = this.#database.write(this.name, this.activeEpoch, random() < 0.05 ? 5_000 : random() * 50);
    if (outcome === 'fenced') this.ownership.fenced();
    this.#clock.after(writeIntervalMs, () => {
      this.#write(random);
    });
  }
}
