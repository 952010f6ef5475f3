// office_test.mjs PIGEON: the page in Debian's chromium, on a real office (`pigeon serve`), with real IP Messenger peers
// (pigeon/interop/raw_peer.py), all on loopback addresses: it needs no rights and no network. Its services are killed under it.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

import { bubble, bubbles, launch, openPage, presence, row, shot, state, step, until, write } from './browser.mjs';

const home = '127.77.0.1';
const peerScript = new URL('../../pigeon/interop/raw_peer.py', import.meta.url).pathname;

// A program that ends with this one, however this one ends.
function start(command, ...args) {
  // A parent that died before its child asked to die with it is not noticed by the kernel.
  const unlessOrphaned = ['sh', '-c', '[ "$PPID" = "$0" ] && exec "$@"', String(process.pid)];
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...unlessOrphaned, command, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
}

async function freeUdpPort() {
  const socket = createSocket('udp4').bind(0, home);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

class Office {
  constructor(pigeon, port) {
    Object.assign(this, { pigeon, port, data: mkdtempSync(`${tmpdir()}/pigeon-page-`), said: [] });
  }
  async open() {
    this.process = start(this.pigeon, 'serve', '--name', 'Mira Lund', '--group', 'Design', '--data', this.data, '--http', '0',
      '--ipmsg', home, '--ipmsg-port', String(this.port));
    this.ended = once(this.process, 'exit');
    for (const stream of [this.process.stdout, this.process.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.said.push(line));
    }
    this.address = await until('the address of the page', () => /http:\S+/.exec(this.said.join('\n'))?.[0]);
  }
  // The answer of `pigeon WHAT --json`. It fails while the service web is down.
  async ask(...what) {
    return JSON.parse((await promisify(execFile)(this.pigeon, [...what, '--json', '--data', this.data])).stdout);
  }
  async service(name) { return (await this.ask('status')).services.find((each) => each.name === name); }
  async history(who) { return (await this.ask('history', who, '--limit', '500')).messages; }
  async kill(name) {
    const before = await this.service(name);
    process.kill(before.pid, 'SIGKILL');
    return until(`${name} is back`, async () => {
      const now = await this.service(name);
      return now.phase === 'running' && now.pid !== before.pid && now.restarts === before.restarts + 1;
    });
  }
  async close() {
    this.process.kill('SIGINT');
    const [code] = await this.ended;
    return code;
  }
  remove() {
    this.process?.kill('SIGKILL');
    rmSync(this.data, { recursive: true, force: true });
  }
}

// A peer, and what it heard: {from, number, mode, text}.
class Peer {
  static modes = { absence: 0x04, message: 0x20, receipt: 0x21 };
  constructor(number, port, key, nick, group, encoding = 'utf-8') {
    Object.assign(this, { key, heard: [], waiting: [] });
    this.process = start('python3', '-B', peerScript, `127.77.0.${number}:${port}`, key, nick, group, encoding);
    this.process.stderr.pipe(process.stderr);
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const what = JSON.parse(line);
      if ('done' in what) this.waiting.shift()(what.done); else this.heard.push(what);
    });
  }
  order(...what) {
    this.process.stdin.write(`${JSON.stringify(what)}\n`);
    return new Promise((done) => this.waiting.push(done));
  }
  greet() { return this.order('greet', home); }
  all(mode, text) { return this.heard.filter((each) => each.mode === Peer.modes[mode] && (text ?? each.text) === each.text); }
  hears(mode, text) { return until(`${this.key} to hear ${mode} ${text}`, () => this.all(mode, text)[0]); }
  // As IP Messenger does: said again, under the same number, until a receipt comes.
  async says(text) {
    const number = await this.order('send', home, text);
    let asked = Date.now();
    await until(`a receipt for “${text}”`, async () => {
      if (Date.now() - asked > 400) {
        asked = Date.now();
        await this.order('send', home, text, number);
      }
      return this.all('receipt', String(number))[0];
    });
  }
}

// ---- what must be seen --------------------------------------------------------------------------------------------------

async function thePageOpens({ page }) {
  await page.getByText('Nobody here yet').waitFor();
  assert.equal(await page.textContent('#me-label'), 'Mira Lund');
}

async function peersComeAndGo({ page, office, ana, wang, zoe }) {
  await Promise.all([ana, wang, zoe].map((each) => each.greet()));
  await Promise.all([ana, wang, zoe].map((each) => presence(page, each.key, 'here')));
  assert.match(await row(page, wang.key).textContent(), /王小明.*市场部/);
  await wang.order('leave', home);
  await zoe.order('leave', home);
  await Promise.all([wang, zoe].map((each) => presence(page, each.key, 'gone')));
  await wang.greet();
  await presence(page, wang.key, 'here');
  assert.equal((await office.ask('people')).find((each) => each.key === zoe.key).here, false);
}

async function messagesArriveUnreadAndAreRead({ page, office, ana }) {
  await ana.says('Are you coming to lunch?');
  await ana.says('中午一起去新开的那家面馆？🍜');
  await until('two unread', async () => (await row(page, ana.key).locator('.badge').textContent()) === '2');
  await until('the title counts', async () => (await page.title()) === '(2) pigeon');
  await row(page, ana.key).click();
  await bubble(page, '中午一起去新开的那家面馆？🍜').waitFor();
  await until('read when seen', async () => (await page.title()) === 'Ana Lima · pigeon');
  await until('the office knows', async () => (await office.ask('people')).find((each) => each.key === ana.key).unread === 0);
}

async function deliveredMeansThatAReceiptCame({ page, ana }) {
  await ana.order('set', 'acknowledges', false);
  await write(page, 'Yes, at noon 🙂 好的！');
  const { number } = await ana.hears('message', 'Yes, at noon 🙂 好的！');
  await state(page, 'Yes, at noon 🙂 好的！', 'waiting');
  await ana.order('set', 'acknowledges', true);
  await ana.order('say', home, 0x21, String(number));
  await state(page, 'Yes, at noon 🙂 好的！', 'delivered');
}

async function anOldGbkPeerUnderstands({ page, wang }) {
  await wang.says('今天下午三点开会，别忘了带上设计稿。');
  await row(page, wang.key).click();
  await bubble(page, '今天下午三点开会，别忘了带上设计稿。').waitFor();
  await write(page, '好的，一会儿见。');
  await wang.hears('message', '好的，一会儿见。');
  await state(page, '好的，一会儿见。', 'delivered');
}

async function aNewNameReachesThePeer({ page, ana }) {
  await page.click('#me-name');
  await page.fill('#me-input', 'Mira Østergård');
  await page.press('#me-input', 'Enter');
  await until('the peer to hear it', () => ana.heard.some((each) => each.mode === Peer.modes.absence && each.text.startsWith('Mira Øster')));
  await page.reload();
  await until('the office to know it', async () => (await page.textContent('#me-label')) === 'Mira Østergård');
}

// Writes from the page and from the peer while a service dies; whatever was written is on both sides, once.
async function killed(name, { page, office, bo }) {
  await row(page, bo.key).click();
  await until('the conversation', async () => (await page.textContent('#talk-name')) === 'Bo Andersen');
  await page.evaluate(() => { window.sameDocument = true; });
  const ours = Array.from({ length: 12 }, (_, i) => `${name} dies: ours ${i}`);
  const theirs = Array.from({ length: 6 }, (_, i) => `${name} dies: theirs ${i} 你好 🙂`);
  let back;
  const speaking = (async () => { for (const text of theirs) await bo.says(text); })();
  for (const [i, text] of ours.entries()) {
    if (i === 4) back = office.kill(name);
    await write(page, text);
  }
  await Promise.all([speaking, back]);
  for (const text of ours) await state(page, text, 'delivered');
  for (const text of theirs) await bubble(page, text).waitFor();
  await until('connected', async () => (await page.textContent('#link-text')) === 'Connected');
  assert.ok(await page.evaluate(() => window.sameDocument), 'the page did not have to be loaded again');

  const about = (all) => all.filter((text) => text.startsWith(`${name} dies`)).sort();
  const wanted = [...ours, ...theirs].sort();
  assert.deepEqual(about(await bubbles(page)), wanted, 'what the page shows');
  assert.deepEqual(about((await office.history(bo.key)).map((each) => each.text)), wanted, 'what is stored');
  // A packet may come twice, under its one number: that is how the protocol repeats, and every peer drops the second.
  for (const text of ours) assert.equal(new Set(bo.all('message', text).map((each) => each.number)).size, 1, text);
}

const webDies = (all) => killed('web', all);
const storeDies = (all) => killed('store', all);
const peopleDies = (all) => killed('people', all);

async function anotherBrowserShowsTheSame({ page, browser, office, bo, wang }) {
  const other = await openPage(browser, `${office.address}#/${encodeURIComponent(bo.key)}`);
  const newest = async (each) => (await bubbles(each)).slice(-40).join('\n');  // what a page fetches at first
  await until('the same', async () => (await newest(other)) === (await newest(page)));
  await until('the last words in the list', async () => (await row(other, wang.key).textContent()).includes('好的，一会儿见。'));
  await other.context().close();
}

async function pictures({ page, browser, office, ana, wang, bo, zoe }) {
  // Whoever people knew greets again: the broadcast that the new one sent reaches nobody on the loopback.
  await Promise.all([ana, wang, bo].map((each) => each.greet()));
  await zoe.order('set', 'acknowledges', false);
  await row(page, ana.key).click();
  for (const text of ['See you there, then. I bring the drawings of the new hall; there are three of them and one is rather good.', '🎉']) {
    await ana.says(text);
    await bubble(page, text).waitFor();
  }
  await write(page, 'Wonderful! The plan is at https://example.org/plan');
  await state(page, 'Wonderful! The plan is at https://example.org/plan', 'delivered');
  await row(page, zoe.key).click();
  await write(page, 'Call me when you are back?');
  await state(page, 'Call me when you are back?', 'waiting');
  await wang.says('设计稿我放在共享文件夹里了。');
  const kinds = ['light', 'dark'].flatMap((scheme) => ['desktop', 'phone'].map((device) => ({ scheme, device })));
  await Promise.all(kinds.map(async ({ scheme, device }) => {
    const view = await openPage(browser, office.address, { device, scheme });
    await row(view, ana.key).waitFor();
    await shot(view, `office-${device}-${scheme}-list`);
    await row(view, ana.key).click();
    await bubble(view, 'Wonderful! The plan is at https://example.org/plan').waitFor();
    await shot(view, `office-${device}-${scheme}-talk`);
    await view.context().close();
  }));
}

async function ctrlCEndsItAndThePageSaysSo({ page, office }) {
  assert.equal(await office.close(), 0, office.said.join('\n'));
  await page.locator('#banner').waitFor();
  await shot(page, 'office-closed');
}

// ---- run ----------------------------------------------------------------------------------------------------------------

async function main(pigeon) {
  const browser = await launch();
  const port = await freeUdpPort();
  const office = new Office(pigeon, port);
  const peers = {
    ana: new Peer(2, port, 'ana@desk-4', 'Ana Lima', 'Design'), wang: new Peer(3, port, 'wang@pc-12', '王小明', '市场部', 'gbk'),
    bo: new Peer(4, port, 'bo@mill', 'Bo Andersen', 'Workshop'), zoe: new Peer(5, port, 'zoe@old', 'Zoë Brandt', 'Archive') };
  try {
    await office.open();
    const errors = [];
    const page = await openPage(browser, office.address, { errors });
    const all = { browser, office, page, ...peers };
    for (const each of [thePageOpens, peersComeAndGo, messagesArriveUnreadAndAreRead, deliveredMeansThatAReceiptCame,
      anOldGbkPeerUnderstands, aNewNameReachesThePeer]) await step(each.name, () => each(all), page);
    await peers.bo.greet();
    for (const each of [webDies, storeDies, peopleDies, anotherBrowserShowsTheSame, pictures, ctrlCEndsItAndThePageSaysSo]) {
      await step(each.name, () => each(all), page);
    }
    assert.deepEqual(errors, []);
  } catch (failure) {
    console.log(office.said.join('\n'));
    throw failure;
  } finally {
    await browser.close();
    office.remove();
    for (const peer of Object.values(peers)) peer.process.stdin.end();
  }
}

if (!process.argv[2]) {
  console.error('usage: office_test.mjs PIGEON');
  process.exit(2);
}
await main(process.argv[2]);
