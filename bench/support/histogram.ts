/**
 * Latencies in microseconds, in buckets whose width grows with the value. Each doubling has 128
 * buckets, so a percentile is off by less than 0.8 %. A histogram is small enough to be sent
 * between processes every few seconds. Histograms of several processes add up; their percentiles
 * do not.
 */
const subBuckets = 128;
const octaves = 36;

export interface HistogramData {
  /** Pairs of bucket and count; empty buckets are left out. */
  readonly buckets: readonly number[];
  readonly max: number;
  readonly sum: number;
}

export interface Percentiles {
  readonly count: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export class Histogram {
  readonly #counts = new Float64Array(subBuckets * octaves);
  #count = 0;
  #max = 0;
  #sum = 0;

  get count(): number {
    return this.#count;
  }

  get meanUs(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  get maxUs(): number {
    return this.#max;
  }

  record(us: number, times = 1): void {
    const value = us < 0 ? 0 : us;
    const bucket = bucketOf(value);
    this.#counts[bucket] = this.#counts[bucket]! + times;
    this.#count += times;
    this.#sum += value * times;
    if (value > this.#max) this.#max = value;
  }

  /**
   * The value that `fraction` of the values do not exceed, rounded up to its bucket; 0 without
   * values.
   */
  percentileUs(fraction: number): number {
    const rank = Math.max(1, Math.ceil(this.#count * fraction));
    let seen = 0;
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= rank) return Math.min(upperBound(bucket), this.#max);
    }
    return this.#max;
  }

  percentiles(): Percentiles {
    return {
      count: this.#count,
      p50Ms: this.percentileUs(0.5) / 1000,
      p95Ms: this.percentileUs(0.95) / 1000,
      p99Ms: this.percentileUs(0.99) / 1000,
      maxMs: this.#max / 1000,
    };
  }

  reset(): void {
    this.#counts.fill(0);
    this.#count = 0;
    this.#max = 0;
    this.#sum = 0;
  }

  toData(): HistogramData {
    const buckets: number[] = [];
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      if (this.#counts[bucket] !== 0) buckets.push(bucket, this.#counts[bucket]!);
    }
    return { buckets, max: this.#max, sum: this.#sum };
  }

  add(data: HistogramData): this {
    for (let i = 0; i < data.buckets.length; i += 2) {
      const bucket = data.buckets[i]!;
      this.#counts[bucket] = this.#counts[bucket]! + data.buckets[i + 1]!;
      this.#count += data.buckets[i + 1]!;
    }
    this.#sum += data.sum;
    this.#max = Math.max(this.#max, data.max);
    return this;
  }

  static of(parts: Iterable<HistogramData>): Histogram {
    const whole = new Histogram();
    for (const part of parts) whole.add(part);
    return whole;
  }
}

/**
 * Below 128 µs a bucket is 1 µs wide. Above, the seven bits behind the leading one choose the
 * bucket.
 */
function bucketOf(us: number): number {
  const value = Math.min(Math.floor(us), 2 ** (octaves + 5));
  if (value < subBuckets) return value;
  const octave = Math.floor(Math.log2(value)) - 6;
  return octave * subBuckets + Math.floor(value / 2 ** (octave - 1)) - subBuckets;
}

function upperBound(bucket: number): number {
  if (bucket < subBuckets) return bucket + 1;
  const octave = Math.floor(bucket / subBuckets);
  return ((bucket % subBuckets) + subBuckets + 1) * 2 ** (octave - 1);
}
