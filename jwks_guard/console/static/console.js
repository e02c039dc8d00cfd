// Makes pages live: takes in the parts that changed, lets ages and countdowns tick, copies key IDs,
// and opens the pages of actions as dialogs. Without it every page works too.
"use strict";
(() => {
  const SILENCE_MS = 15000; // three beats of the stream
  const AGAIN_MS = 3000;
  document.documentElement.dataset.script = "";

  // --- times, by the clock of the server: that of the browser may be wrong ---

  const now = document.querySelector("[data-now]")?.dataset.now;
  const ahead = now ? now * 1000 - Date.now() : 0;

  function span(seconds) {
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    let left = Math.floor(seconds);
    const parts = [];
    for (const [name, size] of units) {
      const count = Math.floor(left / size);
      left %= size;
      if (count) parts.push(`${count} ${name}`);
    }
    return parts.slice(0, 2).join(" ") || "0 s";
  }

  function tick(within = document) {
    for (const time of within.querySelectorAll("time[data-ago], time[data-until]")) {
      const seconds = (Date.parse(time.dateTime) - Date.now() - ahead) / 1000;
      const future = "until" in time.dataset && seconds > 0;
      const text = future ? `in ${span(seconds)}` : `${span(Math.max(0, -seconds))} ago`;
      time.title ||= time.textContent;
      if (time.textContent !== text) time.textContent = text;
    }
  }
  tick();
  setInterval(tick, 1000);
  addEventListener("beforeprint", () => { // an age on paper says nothing
    for (const time of document.querySelectorAll("time[title]")) time.textContent = time.title;
  });

  // --- taking parts in: what is the same stays as it is, so focus, selection and what is open do ---

  function adapt(old, fresh) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    adaptChildren(old, fresh);
  }

  function adaptChildren(old, fresh) {
    const known = new Map();
    for (const child of old.children) if (child.id) known.set(child.id, child);
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const own = child.id ? known.get(child.id) : null;
      if (own && own !== at) {
        old.insertBefore(own, at);
        at = own;
      }
      if (at && sameKind(at, child)) {
        const next = at.nextSibling;
        if (child.nodeType === Node.ELEMENT_NODE) adapt(at, child);
        else if (at.nodeValue !== child.nodeValue) at.nodeValue = child.nodeValue;
        at = next;
      } else {
        old.insertBefore(child, at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function sameKind(one, other) {
    return one.nodeType === other.nodeType && one.nodeName === other.nodeName
      && (one.id || "") === (other.id || "");
  }

  function take(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const region = document.querySelector(`[data-live="${name}"]`);
      if (!region) continue;
      const before = announced(region);
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      tick(fresh.content);
      adaptChildren(region, fresh.content);
      const news = announced(region).filter((text) => !before.includes(text));
      if (before.length && news.length) {
        document.getElementById("announcements").textContent = news.join(". ");
      }
    }
  }

  function announced(region) {
    return [...region.querySelectorAll("[data-announce]")].map((each) => each.dataset.announce);
  }

  // --- the stream ---

  const banner = document.getElementById("connection");
  let source = null;
  let heard = Date.now();
  let lost = null;
  let ended = false;

  function tell(text, link) {
    banner.replaceChildren(text);
    if (link) banner.append(" ", link);
    banner.hidden = false;
  }

  function connected() {
    heard = Date.now();
    lost = null;
    banner.hidden = true;
  }

  function disconnected() {
    if (ended || lost) return;
    lost = new Date(heard);
    const at = `${lost.toISOString().slice(11, 19)} UTC`;
    tell(`Connection lost since ${at}, trying again. What you see is as of then.`);
  }

  function end(why) {
    ended = true;
    source.close();
    const link = document.createElement("a");
    link.href = location.href; // the log-in, which leads back here
    link.textContent = "Log in again";
    tell(`Your session has ended. ${why}`.trim(), link);
  }

  // The stream was refused, not only cut off: the browser does not try again by itself.
  async function refused() {
    const answer = await fetch(location.href, { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) end("");
    else setTimeout(connect, AGAIN_MS);
  }

  function connect() {
    if (ended || document.hidden) return;
    source?.close();
    source = new EventSource(document.body.dataset.liveUrl + location.search);
    heard = Date.now();
    source.addEventListener("parts", (event) => {
      connected();
      take(JSON.parse(event.data));
    });
    source.addEventListener("beat", connected);
    source.addEventListener("ended", (event) => end(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      disconnected();
      if (source.readyState === EventSource.CLOSED) refused();
    });
  }

  if (document.body.dataset.liveUrl) {
    connect();
    setInterval(() => {
      if (ended || document.hidden || Date.now() - heard < SILENCE_MS) return;
      disconnected();
      connect();
    }, AGAIN_MS);
    // A browser opens 6 connections to one host: with 6 pages in tabs behind, no other one loads.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) source?.close();
      else connect();
    });
    addEventListener("pagehide", () => source?.close());
    addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  }

  // --- copying ---

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch { // no permission, or not a secure context: select it, for Ctrl-C
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      return;
    }
    document.getElementById("announcements").textContent = `Copied ${button.dataset.copy}`;
    button.textContent = "Copied"; // until the next part comes
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  // --- dialogs ---

  const dialog = document.getElementById("dialog");

  async function open(link) {
    let answer;
    try {
      answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    } catch {
      location.assign(link.href); // the browser says what is wrong
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const content = page.getElementById("content");
    if (answer.status === 401 || !content) {
      location.assign(link.href);
      return;
    }
    dialog.replaceChildren(...content.childNodes);
    dialog.setAttribute("aria-label", dialog.querySelector("h1")?.textContent ?? page.title);
    tick(dialog);
    dialog.showModal();
    // By itself the first field takes the focus, and what will happen is scrolled out of sight.
    const heading = dialog.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus();
  }

  document.addEventListener("click", (event) => {
    const copying = event.target.closest("[data-copy]");
    if (copying) copy(copying);
    if (event.target.closest("[data-close]") && dialog?.open) {
      event.preventDefault();
      dialog.close();
    }
    const link = event.target.closest("a[data-dialog]");
    const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    if (link && dialog && plain) {
      event.preventDefault();
      open(link);
    }
  });
  dialog?.addEventListener("close", () => dialog.replaceChildren());
})();
