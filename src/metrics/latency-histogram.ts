import type { Family, Sample } from './family.ts';

/** The upper bounds of the buckets. The last bucket has everything above. */
const boundsMs = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000] as const;

/** Durations, counted in buckets. An observation is an increment in an array. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(boundsMs.length + 1);
  #sumMs = 0;

  observe(ms: number): void {
    const found = boundsMs.findIndex((bound) => ms <= bound);
    const bucket = found < 0 ? boundsMs.length : found;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sumMs += ms;
  }

  /** The family in seconds; with zeros if there is no histogram. */
  static family(name: string, help: string, histogram: LatencyHistogram | null): Family {
    return { name, kind: 'histogram', help, samples: (histogram ?? new LatencyHistogram()).#samples() };
  }

  #samples(): Sample[] {
    const samples: Sample[] = [];
    let count = 0;
    for (const [bucket, inBucket] of this.#counts.entries()) {
      count += inBucket;
      const bound = boundsMs[bucket];
      const le = bound === undefined ? '+Inf' : String(bound / 1_000);
      samples.push({ suffix: '_bucket', labels: { le }, value: count });
    }
    return [...samples, { suffix: '_sum', value: this.#sumMs / 1_000 }, { suffix: '_count', value: count }];
  }
}
