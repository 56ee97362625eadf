import { Connection } from '../simulation/database/connection.ts';
import { Database } from '../simulation/database/database.ts';
import type { Ledger } from '../simulation/ledgers/ledger.ts';
import { SimulatedProcess } from '../simulation/brokers/process.ts';
import {
  groupStore,
  leaseStore,
  logStore,
  retentionStore,
  topicStore,
  type StoreParts,
} from '../simulation/database/stores.ts';
import { World } from '../simulation/world.ts';
import type { LeaseStore } from '../../src/ownership/store.ts';
import type { LeaseSite, Stores, StoreSite } from './site.ts';

const patienceMs = 2_000;
/** Longer than any call of the simulated database. */
const callMsMax = 60_000;

/** No checks, because the suites make them. */
function noLedger(world: World): Ledger {
  const nothing = (): undefined => undefined;
  const silent = new Proxy({}, { get: () => nothing });
  const known: Record<string, unknown> = { world, groups: silent, retention: silent, lives: silent, gaps: silent };
  return new Proxy(known, { get: (target, name) => target[String(name)] ?? nothing }) as unknown as Ledger;
}

/** A world whose time passes only during calls. */
class CalledWorld {
  readonly world = new World(1);
  readonly database = new Database(this.world);
  #underWay = 0;
  #running: Promise<void> | null = null;

  /** The same store, but the world runs until each call has its answer. */
  driven<T extends object>(store: T): T {
    return new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function' || name === 'onUnlocked') return member;
        return (...parameters: unknown[]) =>
          this.run(() => Reflect.apply(member as (...all: unknown[]) => Promise<unknown>, target, parameters));
      },
    });
  }

  async run<T>(call: () => Promise<T>): Promise<T> {
    this.#underWay++;
    try {
      const answer = call();
      this.#running ??= this.#runWorld();
      return await answer;
    } finally {
      this.#underWay--;
    }
  }

  parts(broker: string, epoch: () => number): StoreParts & { readonly connections: Connection[] } {
    const { world, database } = this;
    const process = new SimulatedProcess(world, broker);
    const connections: Connection[] = [];
    const connect = (): Connection => {
      const connection = new Connection(world, process, database, { up: true });
      connections.push(connection);
      return connection;
    };
    return { database, ledger: noLedger(world), sabotage: null, epoch, connect, connections };
  }

  async #runWorld(): Promise<void> {
    while (this.#underWay > 0) await this.world.run(callMsMax, () => this.#underWay === 0);
    this.#running = null;
  }
}

/** The tables and stores of the simulation, over its network. */
export class SimulationStoreSite implements StoreSite {
  readonly #called = new CalledWorld();
  #epoch = 0;

  get nowMs(): number {
    return this.#called.world.nowMs;
  }

  async own(): Promise<Stores> {
    const epoch = ++this.#epoch;
    const parts = this.#called.parts(`broker-${epoch}`, () => epoch);
    const lease = this.#called.driven<LeaseStore>(leaseStore(parts));
    const taken = await lease.takeOver((await lease.read()).lease, patienceMs);
    if (taken !== epoch) throw new Error(`the takeover gave epoch ${taken}, not ${epoch}`);
    const log = this.#called.driven(logStore(parts));
    return {
      log,
      commits: log,
      topics: this.#called.driven(topicStore(parts)),
      groups: this.#called.driven(groupStore(parts)),
      retention: this.#called.driven(retentionStore(parts)),
    };
  }

  renew(): Promise<void> {
    return Promise.reject(new Error('no suite asks the simulation for it'));
  }

  pass(ms: number): void {
    this.#called.world.nowMs += ms;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** The leases of the simulation, over its network. */
export class SimulationLeaseSite implements LeaseSite {
  readonly #called = new CalledWorld();
  readonly #connections = new Map<string, Connection[]>();

  lease(broker: string): LeaseStore {
    const parts = this.#called.parts(broker, () => 0);
    this.#connections.set(broker, parts.connections);
    return this.#called.driven<LeaseStore>(leaseStore(parts));
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  pass(ms: number): void {
    this.#called.world.nowMs += ms;
  }

  async cut(broker: string): Promise<void> {
    for (const connection of this.#connections.get(broker) ?? []) connection.cut(true);
    await this.#called.world.run(1);
  }

  async until(holds: () => Promise<boolean>): Promise<void> {
    while (!(await holds()));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
