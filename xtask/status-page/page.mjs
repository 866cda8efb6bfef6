// The status page in headless Chromium, with a real local cluster: a job progresses, a worker dies and comes back
// without the page being loaded again; no request leaves the host; axe-core finds no violation in both colour schemes.
//
// Needs Debian's chromium and nodejs, and in the current directory the packages of package.json.
// Usage: node page.mjs BIN_DIR      (writes page-light.png and page-dark.png)
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

const local = createRequire(path.join(process.cwd(), 'package.json'));
const { chromium } = local('playwright-core');
const axe = fs.readFileSync(local.resolve('axe-core/axe.min.js'), 'utf8');
const bin = path.resolve(process.argv[2]);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hashcluster-page-'));
const probe = net.createServer().listen(0, '127.0.0.1');
await once(probe, 'listening');
const address = `127.0.0.1:${probe.address().port}`;
probe.close();
const timeout = 20000;
const children = [];
function start(program, ...args) {
  const child = spawn(path.join(bin, program), args, { stdio: 'ignore' });
  children.push(child);
  return child;
}
const worker = (name) =>
  start('hashcluster-worker', '--runtime-dir', dir, '--name', name, '--threads', '1');

let browser;
try {
  start('hashcluster-controller', '--runtime-dir', dir, '--http', address);
  worker('w0');
  let other = worker('w1');
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const context = await browser.newContext({ viewport: { width: 1000, height: 640 } });
  const page = await context.newPage();
  const hosts = new Set();
  const messages = [];
  let loads = 0;
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  page.on('load', () => { loads += 1; });
  const deadline = Date.now() + timeout;
  while (!(await page.goto(`http://${address}/`).catch(() => null))) {
    assert(Date.now() < deadline, 'the controller does not listen');
  }
  loads = 1;
  page.on('console', (message) => messages.push(message.text()));
  page.on('pageerror', (error) => messages.push(String(error)));
  const shows = (text) =>
    page.waitForFunction((t) => document.body.innerText.includes(t), text, { timeout });
  await shows('live');
  await shows('2 of 2 workers ready');

  fs.mkdirSync(`${dir}/files`);
  for (let i = 0; i < 40; i += 1) fs.writeFileSync(`${dir}/files/${i}`, Buffer.alloc(20e6, i));
  start('hashctl', '--runtime-dir', dir, 'sum', '-a', 'blake2b', '-r', `${dir}/files`);
  await page.waitForSelector('progress', { timeout });
  const before = await page.$eval('progress', (bar) => bar.value);
  await page.waitForFunction((v) => document.querySelector('progress')?.value > v, before, { timeout });

  other.kill('SIGKILL');
  await shows('worker w1 left');
  await shows('1 of 1 workers ready');
  other = worker('w1');
  await shows('worker w1 connected');
  await shows('2 of 2 workers ready');

  const session = await context.newCDPSession(page);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const run = 'axe.run().then((found) => found.violations.map((v) => v.id).join())';
    const { result } = await session.send('Runtime.evaluate', {
      expression: `${axe};${run}`, awaitPromise: true, returnByValue: true,
    });
    assert.equal(result.value, '', `axe-core, ${colorScheme}`);
    await page.screenshot({ path: `page-${colorScheme}.png` });
  }
  assert.deepEqual([...hosts], [address], 'no request leaves the host');
  assert.deepEqual(messages, [], 'the console is empty');
  assert.equal(loads, 1, 'loaded once');
} finally {
  await browser?.close();
  children.forEach((child) => child.kill('SIGKILL'));
  fs.rmSync(dir, { recursive: true, force: true });
}
