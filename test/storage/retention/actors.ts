import type { Client } from 'pg';
import type { World } from '../../simulation/world.ts';

/** One session or broker whose steps a scheduler begins, one after the other. */
export class Actor {
  readonly name: string;
  /** The application names of its sessions begin so. */
  readonly sessions: string;
  readonly #step: () => Promise<void>;
  #running: Promise<void> | null = null;
  #failure: unknown = null;

  constructor(name: string, sessions: string, step: () => Promise<void>) {
    this.name = name;
    this.sessions = sessions;
    this.#step = step;
  }

  get isRunning(): boolean {
    return this.#running !== null;
  }

  begin(): void {
    this.#running = this.#step()
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#running = null;
      });
  }

  /** Resolves when its step has ended. Throws what a step of it threw. */
  async ended(): Promise<void> {
    while (this.#running !== null) await this.#running;
    this.check();
  }

  check(): void {
    if (this.#failure !== null) throw new Error(`${this.name} failed`, { cause: this.#failure });
  }
}

/** Lets actors take steps in the order that a seed gives. */
export class Scheduler {
  readonly #world: World;
  readonly #actors: readonly Actor[];
  readonly #monitor: Client;

  constructor(world: World, monitor: Client, actors: readonly Actor[]) {
    this.#world = world;
    this.#monitor = monitor;
    this.#actors = actors;
  }

  /** Begins so many steps. `between` runs after each, whatever waits then. */
  async run(steps: number, between: () => Promise<void>): Promise<void> {
    for (let step = 0; step < steps; step++) {
      const free = this.#actors.filter(({ isRunning }) => !isRunning);
      if (free.length > 0) await this.#begin(this.#world.pick(free)!);
      await between();
    }
  }

  /** A step that waits for a lock counts as begun. */
  async #begin(actor: Actor): Promise<void> {
    actor.begin();
    while (actor.isRunning && !(await this.#waits(actor)));
    actor.check();
  }

  async #waits({ sessions }: Actor): Promise<boolean> {
    const { rows } = await this.#monitor.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND starts_with(application_name, $1)`,
      [sessions],
    );
    return rows[0]!.n > 0;
  }

  /** Resolves when no actor has a step under way. */
  async ended(): Promise<void> {
    for (const actor of this.#actors) await actor.ended();
  }
}
