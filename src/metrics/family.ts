/** A metric of Prometheus with its samples. */
export interface Family {
  readonly name: string;
  readonly kind: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  /** What follows the name of the family: a histogram has several kinds of samples. */
  readonly suffix?: '_bucket' | '_sum' | '_count';
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A family without labels; without a sample if the value is not known. */
export function single(kind: 'gauge' | 'counter', name: string, help: string, value: number | null): Family {
  return { name, kind, help, samples: value === null ? [] : [{ value }] };
}
