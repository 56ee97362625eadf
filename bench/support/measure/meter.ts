import type { Database } from '../database.ts';
import { processUsage, sumUsage } from './usage.ts';

/**
 * The cost of an interval. A figure that this machine cannot measure is NaN, which prints as a
 * dash.
 */
export interface Cost {
  readonly elapsedMs: number;
  readonly brokerCpuMs: number;
  readonly databaseCpuMs: number;
  readonly clientsCpuMs: number;
  readonly totalCpuMs: number;
  readonly brokerMemoryPeakMib: number;
  readonly databaseMemoryMib: number;
  readonly clientsMemoryPeakMib: number;
  readonly walBytes: number;
}

/** Measures CPU, memory and WAL of all processes of a benchmark, from `begin` to `end`. */
export class Meter {
  readonly #database: Database;
  readonly #brokerPid: number | null;
  readonly #clientPids: readonly number[];
  #start: Reading | null = null;

  /** `brokerPid` is null if the benchmark has no broker. */
  constructor(database: Database, brokerPid: number | null, clientPids: readonly number[]) {
    this.#database = database;
    this.#brokerPid = brokerPid;
    this.#clientPids = clientPids;
  }

  async begin(): Promise<void> {
    this.#start = await this.#read();
  }

  async end(): Promise<Cost> {
    const start = this.#start!;
    const now = await this.#read();
    const brokerCpuMs = now.broker.cpuMs - start.broker.cpuMs;
    const databaseCpuMs = now.database.cpuMs - start.database.cpuMs;
    const clientsCpuMs = now.clients.cpuMs - start.clients.cpuMs;
    return {
      elapsedMs: now.atMs - start.atMs,
      brokerCpuMs,
      databaseCpuMs,
      clientsCpuMs,
      totalCpuMs: brokerCpuMs + databaseCpuMs + clientsCpuMs,
      brokerMemoryPeakMib: now.broker.memoryPeakMib,
      databaseMemoryMib: now.database.memoryMib,
      clientsMemoryPeakMib: now.clients.memoryPeakMib,
      walBytes: now.walBytes - start.walBytes,
    };
  }

  async #read(): Promise<Reading> {
    const unknown = { cpuMs: NaN, memoryPeakMib: NaN };
    return {
      walBytes: await this.#database.walBytes(),
      broker: this.#brokerPid === null ? { cpuMs: 0, memoryPeakMib: 0 } : (processUsage(this.#brokerPid) ?? unknown),
      clients: sumUsage(this.#clientPids) ?? unknown,
      database: this.#database.usage() ?? { cpuMs: NaN, memoryMib: NaN },
      atMs: performance.now(),
    };
  }
}

interface Reading {
  readonly atMs: number;
  readonly walBytes: number;
  readonly broker: { readonly cpuMs: number; readonly memoryPeakMib: number };
  readonly clients: { readonly cpuMs: number; readonly memoryPeakMib: number };
  readonly database: { readonly cpuMs: number; readonly memoryMib: number };
}
