import { Fault } from '../../../src/errors/fault.ts';
import type { Database, Session } from './database.ts';
import type { SimulatedProcess } from '../brokers/process.ts';
import type { World } from '../world.ts';

/** The network between one broker and the database. */
export interface Link {
  up: boolean;
}

/** How long the operating system tries to reach the other side before the connection fails. */
const unreachableMs = 300;

/**
 * A connection of a broker to the database. It connects when it is first needed, and again after a
 * loss.
 */
export class Connection {
  readonly #world: World;
  readonly #process: SimulatedProcess;
  readonly #database: Database;
  readonly #link: Link;
  #session: Session | null = null;
  /** Resolves when the last answer under way arrives. */
  #lastAnswer = Promise.resolve();
  /** The calls that wait for an answer. They fail when the session ends. */
  readonly #pending = new Set<() => void>();
  #onLost: () => void = () => undefined;

  constructor(world: World, process: SimulatedProcess, database: Database, link: Link) {
    this.#world = world;
    this.#process = process;
    this.#database = database;
    this.#link = link;
  }

  /** Calls `listener` when the session ends although `end` was not called. */
  onLost(listener: () => void): void {
    this.#onLost = listener;
  }

  /** Ends the session on both sides. */
  cut(rollBack: boolean): void {
    if (this.#session !== null) this.#database.end(this.#session, rollBack);
  }

  /** Runs `work` at the database and returns its answer, unless the network fails. @throws Fault */
  call<T>(work: (session: Session) => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let settled = false;
      const settle = (answer: () => void): void => {
        if (settled) return;
        settled = true;
        this.#pending.delete(lost);
        this.#process.enter(answer);
      };
      const fail = (error: Error): void => {
        settle(() => {
          reject(error);
        });
      };
      const lost = (): void => {
        fail(new Fault('OUTCOME_UNKNOWN', 'the connection was cut'));
      };
      const session = this.#connected();
      if (session === null) {
        this.#world.after(unreachableMs * this.#world.fraction(), () => {
          fail(new Fault('DATABASE_UNAVAILABLE', 'the database cannot be reached'));
        });
        return;
      }
      this.#pending.add(lost);
      void this.#travel(session, work, settle, resolve, fail);
    });
  }

  async #travel<T>(
    session: Session,
    work: (session: Session) => T | Promise<T>,
    settle: (answer: () => void) => void,
    resolve: (value: T) => void,
    fail: (error: Error) => void,
  ): Promise<void> {
    const breaksAt = this.#breaksAt();
    await this.#world.pause(this.#tripMs());
    if (breaksAt === 'THERE') this.#database.end(session, true);
    // A message that was under way when the session ended never arrives.
    if (!session.open) return;
    if (breaksAt === 'AT_WORK') {
      this.#world.after(this.#world.between(0, 2), () => {
        this.#database.end(session, this.#world.chance(0.5));
      });
    }
    try {
      const value = await work(session);
      if (breaksAt === 'BACK') this.#database.end(session, true);
      await this.#back();
      settle(() => {
        resolve(value);
      });
    } catch (error) {
      fail(error as Error);
    }
  }

  #breaksAt(): 'THERE' | 'AT_WORK' | 'BACK' | null {
    if (!this.#world.chance(this.#database.breakRate)) return null;
    return this.#world.pick(['THERE', 'AT_WORK', 'BACK'] as const)!;
  }

  #tripMs(): number {
    return this.#world.chance(0.01) ? this.#world.between(5, 100) : this.#world.between(0.05, 0.5);
  }

  /** Answers come in the order of the commits, because a connection does one thing at a time. */
  #back(): Promise<void> {
    const before = this.#lastAnswer;
    this.#lastAnswer = this.#world.pause(this.#tripMs()).then(() => before);
    return this.#lastAnswer;
  }

  #connected(): Session | null {
    if (!this.#link.up || !this.#database.isUp) return null;
    if (this.#session?.open === true) return this.#session;
    this.#session = this.#database.connect(this.#process.name, () => {
      for (const lost of [...this.#pending]) lost();
      this.#pending.clear();
      this.#process.soon(() => {
        this.#onLost();
      });
    });
    return this.#session;
  }
}
