import type { DescMethod } from '@bufbuild/protobuf';
import type { Family, Sample } from '../../metrics/family.ts';
import { codes } from './error-row.ts';

/** The number of the status codes of gRPC. */
const codeCount = 17;
const ok = 0;
const cancelled = 1;

/** The names of the codes, by their numbers. */
const codeNames = new Map<number, string>([
  [ok, 'OK'],
  [cancelled, 'CANCELLED'],
  ...Object.entries(codes).map(([name, code]) => [code, name] as const),
]);

/** Calls that have ended, by method and code, and the errors that clients got, by reason. */
export class CallCounts {
  readonly #byName = new Map<string, MethodCalls>();
  readonly #refusals = new Map<string, number>();

  /** The calls of a method, over both edges. */
  of({ name }: Pick<DescMethod, 'name'>): MethodCalls {
    let calls = this.#byName.get(name);
    if (calls === undefined) this.#byName.set(name, (calls = new MethodCalls()));
    return calls;
  }

  /** The calls of the method at a path of gRPC; the gate has refused unknown paths. */
  ofPath(path: string): MethodCalls {
    return this.of({ name: path.slice(path.lastIndexOf('/') + 1) });
  }

  refused(reason: string): void {
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1);
  }

  families(): Family[] {
    const calls = [...this.#byName].flatMap(([method, of]) => of.samples(method));
    const refusals = Array.from(this.#refusals, ([reason, value]): Sample => ({ labels: { reason }, value }));
    return [
      {
        name: 'millrace_rpcs_total',
        kind: 'counter',
        help: 'Calls that have ended, by method and code.',
        samples: calls,
      },
      {
        name: 'millrace_refusals_total',
        kind: 'counter',
        help: 'Calls that the broker has ended with an error, by its reason.',
        samples: refusals,
      },
    ];
  }
}

/** The calls of one method that have ended. */
export class MethodCalls {
  readonly #byCode = new Float64Array(codeCount);

  /** Counts a call that has ended with the code of gRPC. */
  ended(code: number): void {
    this.#byCode[code] = (this.#byCode[code] ?? 0) + 1;
  }

  answered(): void {
    this.ended(ok);
  }

  /** Counts a stream that its client has ended. */
  cancelled(): void {
    this.ended(cancelled);
  }

  samples(method: string): Sample[] {
    return Array.from(this.#byCode, (value, code): Sample => ({
      labels: { method, code: codeNames.get(code) ?? String(code) },
      value,
    })).filter(({ value }) => value > 0);
  }
}
