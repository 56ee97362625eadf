import { seededRandom } from '../../../bench/support/random.ts';

/**
 * The chance of one case: it follows from the seed and the index, so that the case can be repeated.
 */
export class CaseRandom {
  readonly fraction: () => number;

  constructor(seed: number, index: number) {
    this.fraction = seededRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
  }

  /** One of 0 … count - 1. */
  int(count: number): number {
    return Math.floor(this.fraction() * count);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(list: readonly T[]): T {
    const one = list[this.int(list.length)];
    if (one === undefined) throw new Error('nothing to choose from');
    return one;
  }
}
