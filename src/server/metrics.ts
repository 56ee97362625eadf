import { Counter, Gauge, type Registry } from 'prom-client';
import type { OpenBroker } from '../broker/open-broker.ts';

type Counts = ReturnType<OpenBroker['counts']>;

const gauges: Readonly<Record<string, readonly [name: string, help: string]>> = {
  groups: ['millrace_groups', 'Consumer groups.'],
  members: ['millrace_members', 'Members of all groups.'],
  inFlightRecords: ['millrace_in_flight_records', 'Records delivered and not acked, of all groups.'],
  lag: ['millrace_lag_records', 'Records that groups have not acked, summed over all groups.'],
  queuedBytes: ['millrace_publish_queue_bytes', 'Publishes that wait for their append, in bytes.'],
  tailCacheBytes: ['millrace_tail_cache_bytes', 'Recent batches in memory, in bytes.'],
};

const counters: Readonly<Record<string, readonly [name: string, help: string]>> = {
  appends: ['millrace_append_transactions_total', 'Append transactions that were committed.'],
  appendedRecords: ['millrace_appended_records_total', 'Records that were appended.'],
};

/** Puts the broker's numbers on /metrics; they are read when somebody asks. */
export function exposeMetrics(registry: Registry, counts: () => Counts | null, epoch: () => number | null): void {
  const active = new Gauge({
    name: 'millrace_active',
    help: 'Whether this broker owns the database: 1, or 0 for a standby.',
    registers: [registry],
    collect() {
      active.set(epoch() === null ? 0 : 1);
    },
  });
  for (const [key, [name, help]] of Object.entries(gauges)) {
    const gauge = new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        gauge.set(Number(counts()?.[key as keyof Counts] ?? 0));
      },
    });
  }
  for (const [key, [name, help]] of Object.entries(counters)) {
    const counter = new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        // The machine counts by itself; a counter of prom-client can only be added to.
        counter.reset();
        counter.inc(Number(counts()?.[key as keyof Counts] ?? 0));
      },
    });
  }
}
