import type { Clock } from './clock.ts';

/**
 * Divides long work into slices, between which other work of the process has its turn. Work that is
 * short in sum goes on without a break.
 */
export class Slices {
  readonly #clock: Pick<Clock, 'soon'>;
  readonly #workMax: number;
  #work = 0;

  /** @param workMax the work of one slice, in units that take about as long as each other. */
  constructor(clock: Pick<Clock, 'soon'>, workMax: number) {
    this.#clock = clock;
    this.#workMax = workMax;
  }

  /** A turn of the event loop has begun. */
  begin(): void {
    this.#work = 0;
  }

  /** Counts work that the caller is about to do. @returns whether the slice had room for it. */
  add(work: number): boolean {
    const hasRoom = this.#work === 0 || this.#work + work <= this.#workMax;
    this.#work += work;
    return hasRoom;
  }

  /** Waits for the turn of the next slice, which begins with this work. */
  async next(work: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#clock.soon(resolve);
    });
    this.#work = work;
  }
}
