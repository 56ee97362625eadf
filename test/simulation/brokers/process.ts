import type { Clock, Random } from '../../../src/time/clock.ts';
import type { World } from '../world.ts';

/** A process with its clock. All events from outside pass through `enter`. */
export class SimulatedProcess implements Clock, Random {
  readonly name: string;
  readonly #world: World;
  /** The clocks of machines have different rates and offsets. */
  readonly #rate: number;
  readonly #bootMs: number;
  #wallOffsetMs: number;
  #frozen = false;
  #dead = false;
  #late: (() => void)[] = [];

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
    this.#rate = world.between(0.99, 1.01);
    this.#bootMs = world.between(0, 1e7);
    this.#wallOffsetMs = world.pick([1_000, 60_000, 7_200_000])! * world.between(-1, 1);
  }

  get alive(): boolean {
    return !this.#dead;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  wallMs = (): number => this.#world.nowMs + this.#wallOffsetMs;
  nowMs = (): number => this.#bootMs + this.#world.nowMs * this.#rate;
  fraction = (): number => this.#world.fraction();
  uuid = (): string => `${this.name}-${this.#world.id()}`;

  jump(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  after(delayMs: number, run: () => void): () => void {
    let cancelled = false;
    // Timers are a little late. An early one, caused by rounding, would find nothing due and ask
    // again without end.
    const cancel = this.#world.after(delayMs / this.#rate + 0.001, () => {
      this.enter(() => {
        if (!cancelled) run();
      });
    });
    return () => {
      cancelled = true;
      cancel();
    };
  }

  soon(run: () => void): void {
    this.#world.after(0, () => {
      this.enter(run);
    });
  }

  /** Runs an event from outside: late if the process is frozen, never if it is dead. */
  enter(run: () => void): void {
    if (this.#dead) return;
    if (this.#frozen) this.#late.push(run);
    else run();
  }

  freeze(): void {
    this.#frozen = true;
  }

  thaw(): void {
    this.#frozen = false;
    for (const run of this.#late.splice(0)) this.soon(run);
  }

  kill(): void {
    this.#dead = true;
    this.#late = [];
  }
}
