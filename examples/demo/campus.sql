-- The campus ride service: what its application expects. Both laptops have the same tables before Tandem is started.
CREATE DATABASE campus CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
USE campus;

CREATE TABLE riders (
    id         INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       VARCHAR(80) NOT NULL,
    email      VARCHAR(120) NOT NULL,
    phone      VARCHAR(24) NULL,
    balance    DECIMAL(10,2) NOT NULL DEFAULT 0.00,
    interests  SET('music', 'sports', 'science', 'theatre') NOT NULL DEFAULT '',
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    UNIQUE KEY email (email)
) ENGINE = InnoDB;

CREATE TABLE drivers (
    id      INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name    VARCHAR(80) NOT NULL,
    licence CHAR(10) NOT NULL,
    vehicle ENUM('car', 'van', 'tuk-tuk') NOT NULL,
    rating  DOUBLE NULL,
    active  BOOLEAN NOT NULL DEFAULT TRUE,
    photo   VARCHAR(120) NULL,
    UNIQUE KEY licence (licence)
) ENGINE = InnoDB;

CREATE TABLE bookings (
    id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    rider_id     INT UNSIGNED NOT NULL,
    driver_id    INT UNSIGNED NULL,
    pickup       VARCHAR(80) NOT NULL,
    dropoff      VARCHAR(80) NOT NULL,
    status       ENUM('requested', 'accepted', 'completed', 'cancelled') NOT NULL DEFAULT 'requested',
    fare         DECIMAL(8,2) NULL,
    note         TEXT NULL,
    requested_at DATETIME NOT NULL,
    updated_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY requested_at (requested_at),
    CONSTRAINT booking_rider FOREIGN KEY (rider_id) REFERENCES riders (id) ON DELETE RESTRICT,
    CONSTRAINT booking_driver FOREIGN KEY (driver_id) REFERENCES drivers (id) ON DELETE RESTRICT
) ENGINE = InnoDB;

CREATE TABLE notifications (
    id       BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    rider_id INT UNSIGNED NOT NULL,
    body     VARCHAR(400) NOT NULL,
    details  JSON NULL,
    read_at  DATETIME NULL,
    sent_at  TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT notification_rider FOREIGN KEY (rider_id) REFERENCES riders (id) ON DELETE RESTRICT
) ENGINE = InnoDB;

CREATE TABLE password_resets (
    email      VARCHAR(120) NOT NULL PRIMARY KEY,
    token      BINARY(16) NOT NULL,
    expires_at DATETIME NOT NULL
) ENGINE = InnoDB;
