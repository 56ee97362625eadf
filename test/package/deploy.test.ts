import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseDatabaseAddress } from '../../src/address/database-address.ts';
import { environmentName } from '../../src/config/setting.ts';
import { readSettings } from '../../src/config/settings.ts';
import { limitsTable, settingsTable } from '../../src/config/table.ts';

/** No machine of ours has Docker, so what can be wrong without it is looked for here. */

const root = new URL('../../', import.meta.url).pathname;
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly environment: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
}

const compose = parse(read('deploy/compose.yaml'), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
};
const dockerfile = read('deploy/Dockerfile');
const { postgres, ...brokers } = compose.services;
const ports = [settingsTable.grpcPort.fallback, settingsTable.httpPort.fallback];
const random = { uuid: () => '01234567-89ab-cdef-0123-456789abcdef', fraction: () => 0.5 };

/** ENV lines of the Dockerfile. */
const imageEnvironment = Object.fromEntries(
  Array.from(dockerfile.matchAll(/^ENV (\w+)=(\S+)$/gm), ([, name, value]) => [name!, value!]),
);

test('the compose file has a broker, a standby that differs in its ports alone, and their database', () => {
  expect(Object.keys(brokers)).toEqual(['broker', 'standby']);
  const [broker, standby] = Object.values(brokers);
  expect({ ...standby, ports: [] }).toEqual({ ...broker, ports: [] });
  expect(broker!.depends_on).toEqual({ postgres: { condition: 'service_healthy' } });
  expect(postgres!.healthcheck!.test).toContain('pg_isready');
});

test.each(Object.entries(brokers))(
  'every variable of the %s is a setting, with a value that it takes',
  (_, { environment }) => {
    const known = Object.values({ ...settingsTable, ...limitsTable }).map(({ flag }) => environmentName(flag));
    const given = { ...imageEnvironment, ...environment };
    expect(Object.keys(given).filter((name) => !known.includes(name) && name !== 'HEAP_MIB')).toEqual([]);
    expect(given['HEAP_MIB']).toMatch(/^\d+$/);
    const reading = readSettings(
      [],
      { ...given, DATABASE_URL: given['DATABASE_URL']!.replace(/\$\{\w+\}/, 'secret') },
      random,
    );
    expect(reading).toMatchObject({
      kind: 'start',
      settings: {
        host: '0.0.0.0',
        database: parseDatabaseAddress('postgresql://millrace:secret@postgres:5432/millrace'),
      },
    });
  },
);

test('a client on the host reaches both ports of each broker, on loopback alone and on ports of its own', () => {
  const published = Object.values(brokers).flatMap((service) => service.ports ?? []);
  expect(new Set(published.map((port) => port.split(':')[1])).size).toBe(published.length);
  for (const service of Object.values(brokers)) {
    const parts = (service.ports ?? []).map((port) => port.split(':'));
    expect(parts.map(([address]) => address)).toEqual(['127.0.0.1', '127.0.0.1']);
    expect(parts.map(([, , inside]) => Number(inside))).toEqual(ports);
  }
});

test('the image is built from files that are there, serves on the ports of the settings, and asks whether it is alive', () => {
  for (const { build } of Object.values(brokers)) {
    expect(existsSync(join(root, 'deploy', build!.context, build!.dockerfile))).toBe(true);
  }
  expect(dockerfile).toContain(`EXPOSE ${ports.join(' ')}\n`);
  expect(dockerfile).toContain(`http://127.0.0.1:${settingsTable.httpPort.fallback}/healthz`);
  expect(dockerfile).toMatch(/^ENTRYPOINT \["\S+\/node_modules\/\.bin\/millrace", "start"\]$/m);
  expect(dockerfile).toMatch(/^FROM node:24-/m);
});

test('the database of the compose file is named alike at both ends, and keeps its data in a volume', () => {
  const { POSTGRES_USER: user, POSTGRES_DB: database } = postgres!.environment;
  for (const { environment } of Object.values(brokers)) {
    const url = new URL(environment['DATABASE_URL']!.replace(/\$\{\w+\}/, 'secret'));
    expect([url.username, url.hostname, url.pathname]).toEqual([user, 'postgres', `/${database}`]);
  }
  expect(Object.keys(compose.volumes)).toEqual(['postgres']);
});
