// What the browser keeps for the next visit. It may forbid that to a file, or have no room; the page works without.
// store: localStorage, or sessionStorage until the window is closed.
const Kept = (() => {
  function read(key, store = "localStorage") {
    try {
      return window[store].getItem(key);
    } catch {
      return null;
    }
  }

  function write(key, value, store = "localStorage") {
    try {
      window[store].setItem(key, value);
    } catch { /* as above */ }
  }

  // null also for what is not ours
  function readJson(key) {
    try {
      return JSON.parse(read(key));
    } catch {
      return null;
    }
  }

  function keys(prefix) {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
    } catch {
      return [];
    }
  }

  function remove(key) {
    try {
      localStorage.removeItem(key);
    } catch { /* as above */ }
  }

  return { keys, read, readJson, remove, write };
})();
