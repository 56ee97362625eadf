import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

/** The rules of deploy/prometheus, by promtool, and their runbooks. */

const root = new URL('../../', import.meta.url).pathname;
const rulesFile = 'deploy/prometheus/rules/millrace.yml';
const testsFile = 'deploy/prometheus/tests/millrace.yml';
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface Rule {
  readonly alert: string;
  readonly annotations: Readonly<Record<string, string>>;
}

interface AlertTest {
  readonly alertname: string;
  readonly exp_alerts?: readonly object[];
}

const { groups } = parse(read(rulesFile)) as { readonly groups: readonly { readonly rules: readonly Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);
const { tests } = parse(read(testsFile)) as {
  readonly tests: readonly { readonly alert_rule_test: readonly AlertTest[] }[];
};
const alertTests = tests.flatMap(({ alert_rule_test: of }) => of);
/** Debian's package prometheus has it. */
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

function promtool(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: root, encoding: 'utf8' });
  expect(status, `${stdout}${stderr}`).toBe(0);
  return stdout;
}

test.skipIf(!hasPromtool)(
  'promtool accepts the rules and the example of a configuration (skipped without promtool)',
  () => {
    expect(promtool('check', 'rules', rulesFile)).toContain(`SUCCESS: ${rules.length} rules found`);
    promtool('check', 'config', '--syntax-only', 'deploy/prometheus/prometheus.yml');
  },
);

test.skipIf(!hasPromtool)(
  'each alert fires and does not fire as its tests say (skipped without promtool)',
  { timeout: 120_000 },
  () => {
    expect(promtool('test', 'rules', testsFile)).toContain('SUCCESS');
  },
);

test('each alert has a test in which it fires, and one in which it does not', () => {
  for (const { alert } of rules) {
    const counts = alertTests
      .filter(({ alertname }) => alertname === alert)
      .map(({ exp_alerts: expected }) => expected?.length ?? 0);
    expect(
      counts.some((count) => count > 0),
      `${alert} fires`,
    ).toBe(true);
    expect(counts.includes(0), `${alert} does not fire`).toBe(true);
  }
});

test('each alert has a summary and a section of docs/operations.md, and each section of an alert has its alert', () => {
  const text = read('docs/operations.md');
  const anchors = Array.from(text.matchAll(/^#+ (.+)$/gm), ([, title]) => {
    return title!
      .toLowerCase()
      .replaceAll(/[^a-z0-9 -]/g, '')
      .replaceAll(' ', '-');
  });
  for (const { alert, annotations } of rules) {
    expect(annotations['summary'], alert).toBeDefined();
    expect(
      anchors.map((anchor) => `docs/operations.md#${anchor}`),
      alert,
    ).toContain(annotations['runbook']);
    expect(text, alert).toContain(`\`${alert}\``);
  }
  const named = Array.from(text.matchAll(/`(Millrace[A-Z]\w+)`/g), ([, name]) => name!);
  expect(new Set(named)).toEqual(new Set(rules.map(({ alert }) => alert)));
});

test.each(['overview', 'topics', 'groups', 'database'])(
  'each panel of the dashboard %s says what is normal',
  (name) => {
    const { panels, uid } = JSON.parse(read(`deploy/grafana/${name}.json`)) as {
      readonly uid: string;
      readonly panels: readonly { readonly id: number; readonly title: string; readonly description: string }[];
    };
    expect(uid).toBe(`millrace-${name}`);
    expect(panels.length).toBeGreaterThan(5);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { title, description } of panels) expect(description, title).toMatch(/^Normal: /);
  },
);
